"""Being asked to stop: SIGTERM and Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from rdi_keras.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Turns the first SIGTERM or SIGINT into a `StoppedError`, as a context.

    Inside `deferred` nothing is raised: who is in there looks at `requested` where everything can be saved. A
    second signal does what it does without this context. Outside the main thread, where Python takes no
    signals, it does nothing.

    Attributes:
        signal: the one that has come, or `None`.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._deferring = False
        self._before: dict = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A context in which a signal is only noted."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._heard) for each in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._hand_back()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._hand_back()
        if not self._deferring:
            raise StoppedError(self.signal)

    def _hand_back(self) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
        self._before = {}
