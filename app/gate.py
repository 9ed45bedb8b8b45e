"""Work that takes all cores for a while: few at a time, others wait in line, a full line is refused."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator

from rdi_keras.errors import InputError

LOOK_SECONDS = 0.5  # How often who waits is told where it stands, and may give up.


class Gate:
    """Lets `places` in at a time, in the order in which they came; `line` more may wait. Threads share it."""

    def __init__(self, places: int = 1, line: int = 12):
        self._places, self._line = places, line
        self._inside = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def entered(self, on_wait: Callable[[int], object] = lambda ahead: None) -> Iterator[None]:
        """A context that is inside.

        Args:
            on_wait: called again and again with how many are ahead, while there are any; may raise, to leave.

        Raises:
            InputError: if the line is full.
        """
        me = object()
        with self._changed:
            if len(self._waiting) >= self._line and (self._waiting or self._inside >= self._places):
                raise InputError(
                    f"{self._inside + len(self._waiting)} other visitors are at this, or wait "
                    "for it. Try again in a minute"
                )
            self._waiting.append(me)
        try:
            while not self._let_in(me, on_wait):
                pass
        except BaseException:
            with self._changed:
                self._waiting.remove(me)
                self._changed.notify_all()
            raise
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def _let_in(self, me: object, on_wait: Callable[[int], object]) -> bool:
        with self._changed:
            if self._waiting[0] is not me or self._inside >= self._places:
                self._changed.wait(LOOK_SECONDS)
            if self._waiting[0] is me and self._inside < self._places:
                self._waiting.popleft()
                self._inside += 1
                self._changed.notify_all()
                return True
            ahead = self._inside + self._waiting.index(me)
        on_wait(ahead)
        return False
