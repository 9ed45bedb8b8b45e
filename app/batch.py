"""Decides on many images: one row each, a table, a histogram of exits."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app import images
from app.archive import Member
from app.decision import decide
from rdi_keras.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from app.backends import Served
    from rdi_keras.serving import Predictor

BATCH = 64
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # What they begin with.


@dataclass(frozen=True)
class Row:
    """What the model says of one file; all but `name` and `error` are `None` where it could not be read."""

    name: str
    answer: str | None = None
    probability: float | None = None
    exit: int | None = None
    entropy: float | None = None
    macs: int | None = None
    inverted: bool | None = None
    error: str | None = None


def score(
    model: "Predictor | Served",
    members: Iterable[Member],
    thresholds: Sequence[float],
    fit: str = images.PAD,
    invert: bool = True,
    on_file: Callable[[], None] = lambda: None,
) -> Iterator[Row]:
    """A row for every file, in their order; yields them a batch at a time.

    Args:
        model: a `Predictor`, or a `backends.Served`.
        members: the files.
        thresholds: N-1 nats.
        fit: of images of another shape than the model's, see `images.FITS`.
        invert: whether images that look dark on light are inverted, for models of one channel.
        on_file: called after every file that was read.
    """
    batch: list[tuple[str, _Input | str]] = []
    for member in members:
        batch.append((member.name, _read(member, model.metadata.input_shape, fit, invert)))
        on_file()
        if len(batch) == BATCH:
            yield from _rows(model, batch, thresholds)
            batch = []
    if batch:
        yield from _rows(model, batch, thresholds)


@dataclass(frozen=True)
class _Input:
    image: np.ndarray
    inverted: bool


def _read(member: Member, input_shape: Sequence[int], fit: str, invert: bool) -> _Input | str:
    """What the model sees of a file, or why it sees nothing."""
    if member.data is None:
        return member.error or "it holds nothing"
    try:
        upload = images.read_upload(member.data, input_shape, fit)
    except InputError as error:
        return str(error)
    inverted = invert and upload.dark_on_light
    return _Input(1 - upload.model_input if inverted else upload.model_input, inverted)


def _rows(
    model: "Predictor | Served", batch: list[tuple[str, _Input | str]], thresholds: Sequence[float]
) -> Iterator[Row]:
    good = [read.image for _, read in batch if isinstance(read, _Input)]
    logits = iter(np.stack(list(model.exits(np.stack(good)).values()), axis=1) if good else ())
    for name, read in batch:
        if isinstance(read, str):
            yield Row(name, error=read)
            continue
        made = decide(model.metadata, next(logits), thresholds)
        entropy = made.exits[made.exit - 1].entropy
        yield Row(name, made.answer, made.confidence, made.exit, entropy, made.macs, read.inverted)


def table(rows: Sequence[Row]) -> "pd.DataFrame":
    """The rows as a pandas table."""
    import pandas as pd

    kinds = {"exit": "Int32", "macs": "Int64", "inverted": "boolean"}
    return pd.DataFrame(rows, columns=list(Row.__dataclass_fields__)).astype(kinds)


def csv(rows: Sequence[Row]) -> bytes:
    """The table as CSV, in which no text from outside, file and class names among them, is a formula."""
    shown = table(rows)
    for column in ("name", "answer", "error"):
        shown[column] = shown[column].map(lambda text: f"'{text}" if str(text)[:1] in FORMULAS else text)
    return shown.to_csv(index=False).encode()


def parquet(rows: Sequence[Row]) -> bytes:
    """The table as Parquet."""
    file = io.BytesIO()
    table(rows).to_parquet(file, index=False)
    return file.getvalue()


def exit_counts(rows: Sequence[Row], num_exits: int) -> list[int]:
    """How many left at each exit."""
    return [sum(row.exit == number for row in rows) for number in range(1, num_exits + 1)]


def histogram(counts: Sequence[int]) -> "go.Figure":
    """How many left at each exit, as bars."""
    import plotly.graph_objects as go

    names = [f"exit {number}" for number in range(1, len(counts) + 1)]
    drawn = go.Figure().add_bar(x=names, y=list(counts), text=list(counts), marker_color="#0b8a5f")
    drawn.update_yaxes(title="images")
    return drawn.update_layout(height=260, margin={"l": 50, "r": 10, "t": 10, "b": 30})
