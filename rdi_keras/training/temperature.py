"""Temperatures of a trained model's exits: how sure they say they are, folded into their last layers."""

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.models import MultiExitModel
from rdi_keras.training.calibrating import logits_of

# Scales that are looked through for the calibrated one.
SCALES = (0.01, 100.0)


def scale_temperatures(model: MultiExitModel, held_out: Split, temperature: float = 1.0) -> list[float]:
    """Scales the logits of every exit to be calibrated, and divides them by a temperature.

    Calibrated is the scale of the least cross-entropy on the data given, so that doing it twice changes
    nothing more. No answer changes, entropies do: thresholds must be set anew. Adversarially trained exits
    are less sure than they are right; and at a low temperature entropy orders samples as the margin
    between the two likeliest classes does, which tells better which answers are right.

    Args:
        model: trained. Its exits must end in dense layers without an activation.
        held_out: calibration data.
        temperature: above 0; 1 leaves the exits calibrated, less makes them surer.

    Returns:
        What the logits of each exit were multiplied with.

    Raises:
        InputError: if the temperature is none, or an exit does not end in such a layer.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"A temperature must be a finite number above 0. Received: {temperature}")
    lasts = [_last_dense(head) for head in model.heads]
    scales = []
    for logits, dense in zip(np.moveaxis(logits_of(model, held_out.images), 1, 0), lasts, strict=True):
        scales.append(_calibrated_scale(logits, held_out.labels) / temperature)
        for weight in dense.weights:
            weight.assign(scales[-1] * weight)
    return scales


def _last_dense(head: keras.Model) -> keras.layers.Dense:
    last: keras.Layer = head
    while isinstance(last, keras.Model):
        last = last.layers[-1]
    if not isinstance(last, keras.layers.Dense) or last.activation is not keras.activations.linear:
        raise InputError(
            "A temperature takes exits that end in a dense layer without an activation. Received: "
            f"{head.name} ends in {type(last).__name__} {last.name!r}. Leave calibration.temperature out"
        )
    return last


def _calibrated_scale(logits: np.ndarray, labels: np.ndarray) -> float:
    logits, rows = logits.astype(np.float64), np.arange(len(labels))

    def cross_entropy(log_scale: float) -> float:
        return -log_softmax(np.exp(log_scale) * logits, axis=-1)[rows, labels].mean()

    return float(np.exp(minimize_scalar(cross_entropy, bounds=np.log(SCALES), method="bounded").x))
