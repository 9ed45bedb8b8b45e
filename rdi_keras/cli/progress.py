"""What the terminal shows while something is measured."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status


@contextlib.contextmanager
def conditions_bar(title: str, num_samples: int, attacks: list[str]) -> Iterator[Callable[[str, int], None]]:
    """A context that shows a bar, and gives the function that moves it on after a batch."""
    from rich.progress import Progress

    conditions = ["clean", *attacks]
    with Progress(transient=True) as progress:
        task = progress.add_task(title, total=len(conditions) * num_samples)
        done = dict.fromkeys(conditions, 0)

        def on_batch(condition: str, size: int) -> None:
            done[condition] += size
            # Attacks before this one are over, however few samples they were run on.
            completed = conditions.index(condition) * num_samples + done[condition]
            progress.update(task, completed=completed, description=f"{title}: {condition}")

        yield on_batch


@contextlib.contextmanager
def curves_bar() -> Iterator[Callable[[str, int, int], None]]:
    """As `conditions_bar`, for the points of the curves."""
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        task = progress.add_task("curves", total=None)

        def on_point(curve: str, done: int, planned: int) -> None:
            progress.update(task, completed=done, total=planned, description=f"curves: {curve}")

        yield on_point


def status(text: str) -> "Status":
    """A context that shows a line and that something goes on."""
    from rich.console import Console

    return Console().status(text)
