"""How a model came to its answer for one image: every exit's view, and what it cost."""

from dataclasses import dataclass

import numpy as np

from rdi_keras.inference.policy import entropy
from rdi_keras.serving import Predictor

PASSED, ANSWERS, NOT_REACHED = "passed", "answers", "not reached"


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
    """

    number: int
    answer: str
    confidence: float
    entropy: float
    threshold: float | None
    macs: int
    state: str


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


def decide(predictor: Predictor, image: np.ndarray) -> Decision:
    """Lets a model decide on one image `[H, W, C]`, and asks every exit, those not reached too."""
    metadata = predictor.metadata
    prediction = predictor.predict(image[None])
    fired, label = int(prediction.exit[0]), int(prediction.label[0])
    thresholds = [*map(float, predictor.thresholds), None]
    exits = []
    for number, logits in enumerate(predictor.exits(image[None]).values(), start=1):
        likelihood = _softmax(logits[0])
        exits.append(
            ExitView(
                number=number,
                answer=metadata.class_names[int(likelihood.argmax())],
                confidence=float(likelihood.max()),
                entropy=float(entropy(logits)[0]),
                threshold=thresholds[number - 1],
                macs=metadata.macs_per_exit[number - 1],
                state=PASSED if number < fired else ANSWERS if number == fired else NOT_REACHED,
            )
        )
    return Decision(
        label=label,
        answer=metadata.class_names[label],
        confidence=float(prediction.probabilities[0, label]),
        macs=round(float(prediction.macs[0])),
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
