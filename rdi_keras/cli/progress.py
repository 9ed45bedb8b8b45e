"""What the terminal shows while something is trained or measured, and the history of a training on disk."""

import contextlib
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rdi_keras.files import written_aside

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    import keras
    from rich.console import Console
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
    from rich import console

    return console.Console().status(text)


def history_writer(
    path: Path, part: str, epochs: int, say: Callable[[str], None]
) -> Callable[[list[dict]], None]:
    """Writes the history after every epoch, and says ten times in a training how it goes."""

    def write(history: list[dict]) -> None:
        try:
            with written_aside(path) as aside, aside.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["epoch", *history[-1]], restval="")
                writer.writeheader()
                writer.writerows({"epoch": number, **row} for number, row in enumerate(history))
        except OSError as error:
            say(f"Cannot write {path.name!r}: {error.strerror or error}. Training goes on")
        if len(history) % max(epochs // 10, 1) == 0:
            logs = history[-1]
            names = [name for name in logs if name.startswith("val_") and name.endswith("_accuracy")]
            attacked = [name for name in names if name.endswith("_adversarial_accuracy")]
            shown = " / ".join(f"{100 * logs[name]:.1f}" for name in attacked or names)
            say(
                f"{part}, epoch {len(history)}/{epochs}: loss {logs['loss']:.3f}, held out "
                f"{'under attack ' if attacked else ''}{shown} %"
            )

    return write


@contextlib.contextmanager
def step_progress(part: str, epochs: int, console: "Console") -> Iterator["keras.callbacks.Callback"]:
    """A context that gives a callback which shows how far an epoch is."""
    import keras
    from rich.progress import Progress

    with Progress(transient=True, console=console) as progress:
        task = progress.add_task(part, total=None)

        def on_epoch(epoch: int, logs: dict | None = None) -> None:
            progress.update(task, completed=0, description=f"{part}, epoch {epoch + 1}/{epochs}")

        def on_step(step: int, logs: dict | None = None) -> None:
            progress.update(task, completed=step + 1, total=bar.params["steps"])

        bar = keras.callbacks.LambdaCallback(on_epoch_begin=on_epoch, on_train_batch_end=on_step)
        yield bar
