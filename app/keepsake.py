"""An attacked image as a PNG file that does to the model what the image did."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app import images
from app.decision import Decision, ask, decide

if TYPE_CHECKING:
    from app.backends import Served
    from rdi_keras.serving import Predictor

TOP = 255  # Levels are 0 to 255.


@dataclass(frozen=True)
class Keepsake:
    """A PNG of the size of the model's input.

    Attributes:
        data: the file.
        decision: on what the file holds, read again.
        same: whether answer and exit are those of the image before it was rounded to 256 levels.
        looks_inverted: whether an upload of it would be taken for dark on light.
    """

    data: bytes
    decision: Decision
    same: bool
    looks_inverted: bool


def keepsake(
    model: "Predictor | Served",
    before: np.ndarray,
    after: np.ndarray,
    epsilon: float,
    thresholds: Sequence[float],
) -> Keepsake:
    """Rounds an attacked image to the levels of a PNG, inside the ball, so that the model answers the same.

    Args:
        model: a `Predictor`, or a `backends.Served`.
        before: float32 `[H, W, C]`, clean.
        after: float32 `[H, W, C]`, attacked.
        epsilon: no pixel of the file differs by more from `before`.
        thresholds: N-1 nats.
    """
    wanted = decide(model.metadata, ask(model, after), thresholds)
    kept = []
    for rounded in _rounded(before, after, epsilon):
        data = images.png(rounded)
        upload = images.read_upload(data, after.shape)  # As a visitor would bring it back.
        found = decide(model.metadata, ask(model, upload.model_input), thresholds)
        same = (found.label, found.exit) == (wanted.label, wanted.exit)
        kept.append(Keepsake(data, found, same, upload.dark_on_light))
        if same:
            break
    # At least the same answer, where the exit cannot be had.
    return max(kept, key=lambda each: (each.same, each.decision.label == wanted.label))


def _rounded(before: np.ndarray, after: np.ndarray, epsilon: float) -> Iterator[np.ndarray]:
    """uint8 images: to the nearest level, and away from the clean image, so that nothing is lost."""
    slack = 1e-4  # Of a level: float32 images on the very edge of the ball stay.
    lowest = np.ceil(TOP * np.clip(before - epsilon, 0, 1) - slack)
    highest = np.floor(TOP * np.clip(before + epsilon, 0, 1) + slack)
    exact = TOP * after
    outward = np.where(after >= before, np.ceil(exact - slack), np.floor(exact + slack))
    inward = np.where(after >= before, np.floor(exact + slack), np.ceil(exact - slack))
    for each in (np.round(exact), outward, inward):
        # Where the ball holds no level at all, the nearest to the clean image.
        fits = np.where(
            lowest <= highest, np.clip(each, lowest, np.maximum(highest, lowest)), np.round(TOP * before)
        )
        yield fits.astype(np.uint8)
