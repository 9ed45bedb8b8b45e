"""The way of an attack, step by step: what each exit made of every iterate, and when things turned."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.decision import Decision, decide
from rdi_keras.attacks import Solver, Trace
from rdi_keras.metadata import Metadata

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Okabe and Ito 2008; dashes tell the lines apart in grey too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#888888")
DASHES = ("solid", "dash", "dot", "dashdot")
LOSS, ENTROPY = "loss", "entropy"
LEAST = 1e-6  # Of what is drawn on logarithmic axes.


@dataclass(frozen=True)
class Way:
    """What an attack met on its way; K + 1 points.

    Attributes:
        decisions: where every point would leave, and with which answer.
        loss: `[K + 1, N]`, every exit's cross-entropy of the class attacked, nats.
        entropy: `[K + 1, N]`, nats.
        thresholds: N-1 nats.
        events: sentences: where the answer flips, and where the exit moves.
    """

    decisions: list[Decision]
    loss: np.ndarray
    entropy: np.ndarray
    thresholds: list[float]
    events: list[str]


def way_of(metadata: Metadata, trace: Trace, clean: Decision, label: int, thresholds: Sequence[float]) -> Way:
    """The way of a trace.

    Args:
        metadata: of the model.
        trace: of the attack.
        clean: the decision on the clean image.
        label: the class that was attacked.
        thresholds: N-1 nats.
    """
    logits = trace.logits.astype(np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    decisions = [decide(metadata, each, thresholds) for each in trace.logits]
    return Way(
        decisions=decisions,
        loss=-log_probabilities[..., label],
        entropy=-(np.exp(log_probabilities) * log_probabilities).sum(axis=-1),
        thresholds=list(map(float, thresholds)),
        events=_events([clean, *decisions], trace),
    )


def step_text(step: int, last: int, solver: Solver) -> str:
    """A point of the way in words."""
    if not solver.tells_its_way:
        return "the clean image" if step == 0 else "the result"
    return "the start" if step == 0 else f"after step {step} of {last}"


def figure(way: Way, kind: str, shown: int) -> "go.Figure":
    """A line per exit over the steps.

    Args:
        way: of the attack.
        kind: `LOSS` or `ENTROPY`; the latter with the thresholds.
        shown: the step that is looked at.
    """
    import plotly.graph_objects as go

    values = way.loss if kind == LOSS else way.entropy
    drawn = go.Figure()
    for number in range(values.shape[1]):
        colour = COLOURS[number % len(COLOURS)]
        drawn.add_scatter(
            y=np.maximum(values[:, number], LEAST),
            name=f"exit {number + 1}",
            mode="lines",
            line={"color": colour, "dash": DASHES[number % len(DASHES)]},
            hovertemplate="step %{x}: %{y:.4g} nats",
        )
        if kind == ENTROPY and number < len(way.thresholds):
            limit = max(way.thresholds[number], LEAST)
            drawn.add_hline(y=limit, line={"color": colour, "width": 1, "dash": "dot"})
    drawn.add_vline(x=shown, line={"color": "#888888", "width": 1})
    title = "cross-entropy, nats" if kind == LOSS else "entropy, nats (dotted: thresholds)"
    drawn.update_yaxes(type="log", exponentformat="power", title=title)
    drawn.update_xaxes(title="steps")
    return drawn.update_layout(
        height=300,
        margin={"l": 60, "r": 10, "t": 30, "b": 40},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )


def _events(decisions: list[Decision], trace: Trace) -> list[str]:
    """What changes from the clean image to the start, and from each step to the next."""
    events = []
    for step, (before, after) in enumerate(itertools.pairwise(decisions)):
        where = "At the start" if step == 0 else f"Step {step}"
        where = where if trace.told else "In the end"
        if before.label != after.label:
            events.append(f"{where}: the answer turns from {before.answer} to {after.answer}.")
        if before.exit != after.exit:
            events.append(f"{where}: it leaves at exit {after.exit} instead of {before.exit}.")
    return events
