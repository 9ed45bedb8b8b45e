"""How a model came to its answer for one image: every exit's view, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rdi_keras.inference.policy import EntropyPolicy, entropy
from rdi_keras.metadata import Metadata

if TYPE_CHECKING:
    from app.backends import Served
    from rdi_keras.serving import Predictor

PASSED, ANSWERS, NOT_REACHED = "passed", "answers", "not reached"
TOP = 3  # Classes of an exit that are shown.


@dataclass(frozen=True)
class ExitView:
    """What one exit makes of the image.

    Attributes:
        number: 1-based.
        answer: its most likely class.
        confidence: that class's probability.
        entropy: in nats.
        threshold: it answers below this entropy; `None` for the last exit, which always answers.
        macs: what has run up to here, heads passed included.
        state: `PASSED`, `ANSWERS` or `NOT_REACHED`.
        top: the most likely classes with their probabilities, `answer` first.
    """

    number: int
    answer: str
    confidence: float
    entropy: float
    threshold: float | None
    macs: int
    state: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Decision:
    """The answer for one image.

    Attributes:
        label: index of the class answered.
        answer: its name.
        confidence: its probability at the exit that answered.
        macs: what ran for this image.
        macs_backbone: what the backbone without side exits would take.
        max_entropy: ln C, the entropy of not knowing at all.
        exits: in the order in which the image meets them.
    """

    label: int
    answer: str
    confidence: float
    macs: int
    macs_backbone: int
    max_entropy: float
    exits: tuple[ExitView, ...]

    @property
    def exit(self) -> int:
        """The number of the exit that answered."""
        return next(each.number for each in self.exits if each.state == ANSWERS)

    @property
    def saving(self) -> float:
        """The share of the backbone's compute that was saved; negative where more was spent."""
        return 1 - self.macs / self.macs_backbone


def ask(model: "Predictor | Served", image: np.ndarray) -> np.ndarray:
    """Logits float32 `[N, C]` of every exit for one image `[H, W, C]`: all that decisions are made of.

    Args:
        model: a `Predictor`, or a `backends.Served`.
        image: float32 in [0, 1].
    """
    return np.concatenate(list(model.exits(image[None]).values()))


def decide(metadata: Metadata, logits: np.ndarray, thresholds: Sequence[float]) -> Decision:
    """Where an image leaves with these thresholds, and what every exit makes of it, those not reached too.

    Args:
        metadata: of the model.
        logits: float32 `[N, C]`, as `ask` gives them.
        thresholds: N-1 entropies in nats.
    """
    limits = np.asarray(thresholds, np.float32)
    fired = int(EntropyPolicy(limits).exit_of([each[None] for each in logits])[0])
    entropies = np.asarray(entropy(logits))
    likelihoods = np.stack([_softmax(each) for each in logits])
    exits = []
    for number, likelihood in enumerate(likelihoods, start=1):
        order = np.argsort(-likelihood, kind="stable")[:TOP]
        top = tuple((metadata.class_names[each], float(likelihood[each])) for each in order)
        exits.append(
            ExitView(
                number=number,
                answer=top[0][0],
                confidence=top[0][1],
                entropy=float(entropies[number - 1]),
                threshold=float(limits[number - 1]) if number < len(logits) else None,
                macs=metadata.macs_per_exit[number - 1],
                state=PASSED if number < fired else ANSWERS if number == fired else NOT_REACHED,
                top=top,
            )
        )
    label = int(logits[fired - 1].argmax())
    return Decision(
        label=label,
        answer=metadata.class_names[label],
        confidence=float(likelihoods[fired - 1, label]),
        macs=metadata.macs_per_exit[fired - 1],
        macs_backbone=metadata.macs_backbone,
        max_entropy=float(np.log(len(metadata.class_names))),
        exits=tuple(exits),
    )


def percent(share: float) -> str:
    """A share for a reader, e.g. `38 %`; one decimal where a whole number would say 0 or 100."""
    rounded = f"{share:.0%}"
    if rounded in ("0%", "100%", "-0%") and share not in (0, 1):
        rounded = f"{share:.1%}"
    return rounded.replace("%", " %")


def compact(count: int) -> str:
    """A large number with three digits, e.g. `147 k` or `1.81 M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            value = count / size
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return str(count)


def saving_text(saving: float) -> str:
    """What was saved against the backbone, said honestly where more was spent."""
    return f"{percent(saving)} saved" if saving >= 0 else f"{percent(-saving)} more than the backbone"


def _softmax(logits: np.ndarray) -> np.ndarray:
    likelihood = np.exp(logits.astype(np.float64) - logits.max())
    return likelihood / likelihood.sum()
