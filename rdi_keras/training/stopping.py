"""Being asked to stop: SIGTERM and Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from rdi_keras.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Turns the first SIGTERM or SIGINT into a `StoppedError`, as a context.

    Inside `deferred` the error waits for `check`, which is called where everything can be saved. A second
    signal does what it does without this context. Outside the main thread, where Python takes no signals,
    it does nothing.
    """

    def __init__(self):
        self._signal: int | None = None
        self._deferring = False
        self._before: dict = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._signal is not None

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A context in which only `check` raises."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        self.check()

    def check(self) -> None:
        """Raises `StoppedError` if a signal has come."""
        if self._signal is not None:
            raise StoppedError(signal.Signals(self._signal))

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._heard) for each in SIGNALS}
        return self

    def __exit__(self, *error) -> None:
        self._hand_back()

    def _heard(self, number: int, frame) -> None:
        self._signal = number
        self._hand_back()
        if not self._deferring:
            self.check()

    def _hand_back(self) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
        self._before = {}
