"""What happens between the steps of training: thresholds that follow the model, a stop on NaN."""

import math
from collections.abc import Callable

import keras
import numpy as np

from rdi_keras.errors import TrainingDivergedError


class StopOnDivergence(keras.callbacks.Callback):
    """Stops training at the first loss or metric that is not a finite number.

    Raises:
        TrainingDivergedError: names the step (over all epochs, from 1) and the metric.
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._step = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._step += 1
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                raise TrainingDivergedError(
                    f"Training stopped at step {self._step}: {name} is {float(value)}. Try a lower "
                    "learning rate (--training.learning_rate)"
                )


class CalibrateThresholds(keras.callbacks.Callback):
    """Sets the model's thresholds from held-out images after every epoch.

    An exit-aware training attack then decides where samples leave as the deployed model would.

    Args:
        calibrate: sets a model's thresholds.
    """

    def __init__(self, calibrate: Callable[[keras.Model], np.ndarray]):
        super().__init__()
        self._calibrate = calibrate

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._calibrate(self.model)
