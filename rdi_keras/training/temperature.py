"""Temperatures of a trained model's exits: how sure they say they are, folded into their last layers."""

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.models import MultiExitModel
from rdi_keras.training.calibrating import logits_of

# Scales that are looked through for the calibrated one; one near an end of them is none.
SCALES = (1e-3, 1e3)
# A logarithm of a scale that is no change.
UNCHANGED = 1e-4


def scale_temperatures(model: MultiExitModel, held_out: Split, temperature: float = 1.0) -> list[float]:
    """Scales the logits of every exit to be calibrated, and divides them by a temperature.

    Calibrated is the scale of the least cross-entropy on the data given, so that doing it twice changes
    nothing more. Their labels are smoothed by one count in each class, as Platt's, without which the scale
    of an exit that is always right has no end. No exit answers otherwise than before, but its entropies
    change: thresholds must be set anew. At a low temperature entropy orders samples as the margin between
    the two likeliest classes does.

    Args:
        model: trained. Its exits must end in dense layers of their own without an activation.
        held_out: calibration data.
        temperature: above 0; 1 leaves the exits calibrated, less makes them surer.

    Returns:
        What the logits of each exit were multiplied with: 1 where that would change next to nothing.

    Raises:
        InputError: if the temperature is not above 0, an exit does not end in such a layer, gives logits that
            are not finite or far from calibrated, or is no better than chance. Then nothing is changed.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"A temperature must be a finite number above 0. Received: {temperature}")
    lasts = [_last_dense(head) for head in model.heads]
    if len({id(each) for each in lasts}) < len(lasts):
        names = ", ".join(each.name for each in lasts)
        raise InputError(
            f"A temperature takes exits with last layers of their own. Received, of exits 1 to {len(lasts)}: "
            f"{names}. Give each its own, or leave calibration.temperature out"
        )
    logits = np.moveaxis(logits_of(model, held_out.images), 1, 0)
    found = [
        _calibrated_scale(each, held_out.labels, head.name) / temperature
        for each, head in zip(logits, model.heads, strict=True)
    ]
    scales = [scale if abs(np.log(scale)) > UNCHANGED else 1.0 for scale in found]
    for scale, dense in zip(scales, lasts, strict=True):
        for weight in dense.weights:
            weight.assign(scale * weight)
    return scales


def _last_dense(head: keras.Model) -> keras.layers.Dense:
    last: keras.Operation = head
    while isinstance(last, keras.Model):
        last = last.outputs[0]._keras_history.operation
    if not isinstance(last, keras.layers.Dense) or last.activation is not keras.activations.linear:
        raise InputError(
            "A temperature takes exits that end in a dense layer without an activation. Received: "
            f"{head.name} ends in {type(last).__name__} {last.name!r}. Leave calibration.temperature out"
        )
    return last


def _calibrated_scale(logits: np.ndarray, labels: np.ndarray, exit_name: str) -> float:
    if not np.isfinite(logits).all():
        raise InputError(f"{exit_name} gives logits that are no finite numbers. Train the model again")
    n, num_classes = logits.shape
    logits, rows = logits.astype(np.float64), np.arange(n)

    def cross_entropy(log_scale: float) -> float:
        likely = log_softmax(np.exp(log_scale) * logits, axis=-1)
        return -(n * likely[rows, labels] + likely.sum(axis=-1)).mean() / (n + num_classes)

    found = minimize_scalar(cross_entropy, bounds=np.log(SCALES), method="bounded", options={"xatol": 1e-6})
    scale = float(np.exp(found.x))
    if found.fun > np.log(num_classes) - 1e-6:
        raise InputError(
            f"{exit_name} has no calibrated scale: on {n:,} held-out samples it is no better than chance. "
            "Train the model longer, or leave calibration.temperature out"
        )
    if np.abs(found.x - np.log(SCALES)).min() < 0.01:
        needed = f"{SCALES[1]:g} or more" if scale > 1 else f"{SCALES[0]:g} or less"
        raise InputError(
            f"{exit_name} has logits that only a factor of {needed} would calibrate; allowed: between "
            f"{SCALES[0]:g} and {SCALES[1]:g}. Leave calibration.temperature out"
        )
    return scale
