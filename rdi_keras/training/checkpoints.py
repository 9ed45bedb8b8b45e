"""What an interrupted training goes on from: whole states on disk, each written at once or not at all."""

import json
import re
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from rdi_keras.errors import InputError
from rdi_keras.files import written_aside

KEPT = 2  # The newest may turn out to be damaged.
DAMAGED = (OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)


@dataclass
class Progress:
    """How far training has come.

    Attributes:
        epoch: finished epochs.
        step: steps of the next epoch that are done.
        seconds: spent so far, interruptions left out.
        history: a row of logs per finished epoch.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)


class Checkpoints:
    """The newest states of one training in a folder.

    A state is one file, written under another name, forced to disk and renamed: a crash leaves it whole or
    not there. A file that was damaged later is told by its checksums, and put aside.

    Args:
        folder: is made when the first state is written.
        part: which of the trainings that share the folder: a name of letters.
        fingerprint: of everything that decides what training does; a state of another one is refused.
        minutes: how often `save_if_due` writes.
        steps: the same in steps; `None` for by minutes alone.
        say: is told of what went wrong and did not stop training.
        writes: whether this process writes, and does not only read what another one wrote.
    """

    def __init__(
        self,
        folder: Path,
        part: str,
        fingerprint: str,
        minutes: float = 5.0,
        steps: int | None = None,
        say: Callable[[str], None] = print,
        writes: bool = True,
    ):
        self._folder, self._part, self._fingerprint = folder, part, fingerprint
        self._seconds, self._steps, self._say = 60 * minutes, steps, say
        self._last, self._since = time.monotonic(), 0
        self._writes = writes

    def save_if_due(self, arrays: Callable[[], Sequence[np.ndarray]], progress: Progress) -> None:
        """Counts a step, and writes the state if it is time."""
        self._since += 1
        late = time.monotonic() - self._last >= self._seconds
        if late or (self._steps is not None and self._since >= self._steps):
            self.save(arrays(), progress)

    def save(self, arrays: Sequence[np.ndarray], progress: Progress) -> bool:
        """Writes a state; says so and goes on if that fails. Returns whether it was written."""
        self._last, self._since = time.monotonic(), 0
        if not self._writes:
            return True
        path = self._folder / f"{self._part}-{progress.epoch:06d}-{progress.step:08d}.npz"
        about = {"fingerprint": self._fingerprint, **asdict(progress)}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with written_aside(path) as aside, aside.open("wb") as file:
                np.savez(file, *arrays, about=np.frombuffer(json.dumps(about).encode(), np.uint8))
        except OSError as error:
            last = next(iter(self._paths()), None)
            self._say(
                f"Cannot write the checkpoint {path.name!r}: {error.strerror or error}. Training goes on; "
                f"the last one is {last.name if last else 'none'}"
            )
            return False
        for old in self._paths()[KEPT:]:
            old.unlink(missing_ok=True)
        return True

    def restore(self) -> tuple[list[np.ndarray], Progress] | None:
        """The newest state that can be read, or `None` if there is none.

        Raises:
            InputError: if the state is of a training with other settings.
        """
        for path in self._paths():
            try:
                with np.load(path, allow_pickle=False) as file:
                    about = json.loads(file["about"].tobytes())
                    arrays = [file[f"arr_{number}"] for number in range(len(file.files) - 1)]
                    fingerprint, progress = about.pop("fingerprint"), Progress(**about)
            except DAMAGED as error:
                self._say(f"The checkpoint {path.name!r} is damaged ({error}): going back to the one before")
                if self._writes:  # Else it would count as one of the newest.
                    path.replace(path.with_suffix(".damaged"))
                continue
            if fingerprint != self._fingerprint:
                raise InputError(
                    f"The checkpoint {path.name!r} is of a training with other settings, data or software. "
                    "Go on with what it was started with, or start anew: --overwrite true, without --resume"
                )
            return arrays, progress
        return None

    def clear(self) -> None:
        """Removes everything of this part."""
        if self._writes and self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name.removeprefix(".aside.").startswith(f"{self._part}-"):
                    path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        """The newest first."""
        named = re.compile(rf"{re.escape(self._part)}-\d+-\d+\.npz")
        found = self._folder.iterdir() if self._folder.is_dir() else []
        return sorted((each for each in found if named.fullmatch(each.name)), reverse=True)
