"""What happens between the steps of training: thresholds that follow the model, and reasons to stop."""

import math
from collections.abc import Callable

import keras
import numpy as np

from rdi_keras.attacks import CompiledAttack
from rdi_keras.data import Split
from rdi_keras.errors import TrainingDivergedError

# Catastrophic overfitting takes a model from half of the samples to none within an epoch; a good epoch and
# the next differ by a few points.
COLLAPSE = 0.7
# Times chance: an accuracy above it is something learned.
LEARNED = 2.0


class StopOnDivergence(keras.callbacks.Callback):
    """Stops training at the first loss or metric that is not a finite number.

    Raises:
        TrainingDivergedError: names the step (over all epochs, from 1) and the metric.
    """

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                raise TrainingDivergedError(
                    f"Training stopped at step {_step_of(self.model)}: {name} is "
                    f"{float(value)}. Try a lower learning rate (--training.learning_rate)"
                )


class CalibrateThresholds(keras.callbacks.Callback):
    """Sets the model's thresholds from held-out images after every epoch.

    An exit-aware training attack then decides where samples leave as the deployed model would.

    Args:
        calibrate: sets a model's thresholds.
    """

    def __init__(self, calibrate: Callable[[keras.Model], object]):
        super().__init__()
        self._calibrate = calibrate

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._calibrate(self.model)


class OverfittingProbe(keras.callbacks.Callback):
    """Attacks held-out images harder than training does, and stops when the model collapses under it.

    Training against one step can, from one epoch to the next, lead to a network that stands that step and
    nothing else (catastrophic overfitting; Wong et al., ICLR 2020, arXiv:2001.03994). Then training ends, and
    the weights of the best epoch come back. What the probe found joins the logs as `probe_accuracy`, the
    mean over the exits.

    Args:
        attack: the harder one.
        held_out: what it is run on.
        seed: of the attack.
        say: is told of a collapse.

    Attributes:
        collapsed_at: the epoch (from 1) that training was stopped after; 0 if it was not.
    """

    def __init__(
        self,
        attack: CompiledAttack,
        held_out: Split,
        seed: int = 0,
        say: Callable[[str], None] = lambda line: None,
    ):
        super().__init__()
        self._attack, self._held_out, self._seed, self._say = attack, held_out, seed, say
        self.collapsed_at = 0
        self._best = -1.0
        self._weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        images = self._attack(self._held_out.images, self._held_out.labels, seed=self._seed)
        answers = [np.argmax(each, axis=-1) for each in self.model.logits(images)]
        accuracy = float(np.mean([each == self._held_out.labels for each in answers]))
        if logs is not None:
            logs["probe_accuracy"] = accuracy
        if accuracy > self._best:
            self._best, self._weights = accuracy, self.model.get_weights()
        # Near chance there is nothing to collapse from.
        elif accuracy < COLLAPSE * self._best and self._best > LEARNED / self.model.num_classes:
            self.collapsed_at = epoch + 1
            self._say(
                f"overfitted to the training attack: after epoch {epoch + 1} the probe finds "
                f"{100 * accuracy:.1f} % right, {100 * self._best:.1f} before. The best epoch comes back"
            )
            self.model.stop_training = True
            self.model.set_weights(self._weights)

    def state(self) -> list[np.ndarray]:
        """What a resumed training needs to go on as if nothing had happened."""
        return [np.array([self._best, self.collapsed_at]), *self._weights]

    def restore(self, state: list[np.ndarray]) -> None:
        """Takes over what `state` gave."""
        (self._best, collapsed), *self._weights = state
        self._best, self.collapsed_at = float(self._best), int(collapsed)


def _step_of(model: keras.Model) -> int:
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))
