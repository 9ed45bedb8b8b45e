"""The errors that users of the library are meant to see."""

import signal as signals


class InputError(ValueError):
    """A request that cannot be met as given.

    The message is one line that says what was given, what is allowed and what to do. The commands
    print it without a traceback and exit with status 2.
    """


class TrainingDivergedError(RuntimeError):
    """Training met a value that is not a finite number; the message names step and metric."""


class ServerError(RuntimeError):
    """A model server gave no answer: it is down, too slow, or failed.

    The message names the address, what happened and what to do.
    """


class StoppedError(BaseException):
    """A signal asked for a stop.

    Like `KeyboardInterrupt` it is no `Exception`: what handles the failures of others must let it through.

    Attributes:
        signal: which one.
        kept: what remains, in words.
        is_saved: whether all work is kept; if not, commands exit with status 1.
    """

    def __init__(self, signal: signals.Signals, kept: str = "finished work is kept", is_saved: bool = True):
        super().__init__(f"stopped by {signal.name}; {kept}")
        self.signal, self.kept, self.is_saved = signal, kept, is_saved


class WorkerLostError(RuntimeError):
    """Another process of a training on several machines is gone; the message says what to do."""
