"""Files that are there whole or not at all, whatever happens while they are written."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

ASIDE = ".aside."


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A context that gives another path to write to; what lies there then takes the file's place.

    It is forced to disk first, and removed if anything goes wrong. The other path ends as this one does,
    because some writers look at the ending.
    """
    aside = path.with_name(f"{ASIDE}{path.name}")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text at once or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text)
