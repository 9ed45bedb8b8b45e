"""A model, images, and what is right to answer: from the logits of all exits, not by adaptive execution."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import rdi_keras as rdi
from rdi_keras.inference.calibration import exits_at

# Of entropies and thresholds. Runtimes add up in different orders.
TOO_CLOSE, TOLERANCE = 1e-4, 1e-4


@dataclass(frozen=True)
class Known:
    """What every exit says of n images.

    Attributes:
        predictor: asked once, for the logits.
        images: float32 `[n, H, W, C]`.
        probabilities: `[n, N, C]`.
        entropies: `[n, N]`, nats.
    """

    predictor: rdi.Predictor
    images: np.ndarray
    probabilities: np.ndarray
    entropies: np.ndarray

    @classmethod
    def of(cls, path: Path, images: np.ndarray) -> "Known":
        """Opens a model and asks it for the logits of all exits."""
        predictor = rdi.Predictor(path, engine="tensorflow")
        logits = np.stack(list(predictor.exits(images).values()), axis=1).astype(np.float64)
        probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
        entropies = -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(axis=-1)
        return cls(predictor, images, probabilities, entropies)

    def limits(self, number: int, thresholds=None, budget=None) -> np.ndarray:
        """Thresholds `[number, N-1]` of a request."""
        if budget is not None:
            allowed = np.broadcast_to(np.asarray(budget, np.float32), number)
            return self.predictor.metadata.budget_table.thresholds_for(allowed)
        chosen = np.asarray(self.predictor.thresholds if thresholds is None else thresholds, np.float32)
        return np.broadcast_to(chosen, (number, self.predictor.num_exits - 1))

    def exits(self, rows: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where these rows of the images leave, and whether no entropy lies too close to its threshold."""
        entropies = self.entropies[rows]
        with np.errstate(invalid="ignore"):
            sure = ~(np.abs(entropies[:, :-1] - limits) < TOO_CLOSE).any(axis=1)
        return exits_at(entropies, limits), sure

    def wrong(self, answer, rows: np.ndarray, limits: np.ndarray) -> str | None:
        """What is wrong with an answer for these rows of the images, or `None`.

        A sample whose exit is not sure may leave there or go on.
        """
        count = len(rows)
        if not all(len(each) == count for each in (answer.label, answer.exit, answer.probabilities)):
            return f"{len(answer.label)} answers for {count} images"
        expected, sure = self.exits(rows, limits)
        exits = np.asarray(answer.exit)
        if ((exits < 1) | (exits > self.predictor.num_exits)).any():
            return f"exits {exits.tolist()}"
        if (exits != expected)[sure].any():
            return f"left at {exits.tolist()}, not at {expected.tolist()}"
        expected = self.probabilities[rows, exits - 1]
        if not np.allclose(answer.probabilities, expected, atol=TOLERANCE):
            return f"probabilities differ by up to {np.abs(answer.probabilities - expected).max():.3g}"
        if (np.asarray(answer.label) != np.argmax(answer.probabilities, axis=1)).any():
            return "a label that is not the most probable one"
        macs = np.asarray(self.predictor.metadata.macs_per_exit, np.float32)[exits - 1]
        return None if np.array_equal(answer.macs, macs) else f"macs {np.asarray(answer.macs).tolist()}"


def misshapen(answer, classes: int, exits: int) -> str | None:
    """What is wrong with an answer of whose input nothing is known, or `None`."""
    sums = np.asarray(answer.probabilities).sum(axis=1)
    if answer.probabilities.shape[1] != classes or not np.allclose(sums, 1, atol=TOLERANCE):
        return f"probabilities of shape {answer.probabilities.shape} that add up to {sums.tolist()}"
    if (np.asarray(answer.label) != np.argmax(answer.probabilities, axis=1)).any():
        return "a label that is not the most probable one"
    return None if ((answer.exit >= 1) & (answer.exit <= exits)).all() else f"exits {answer.exit.tolist()}"
