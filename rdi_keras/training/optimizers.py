"""Optimizers and learning-rate schedules, by a configuration."""

from typing import Any

import keras

from rdi_keras.errors import InputError
from rdi_keras.presets import TrainingConfig

OPTIMIZERS = ("adam", "sgd")
"""The optimizers that a configuration may name."""
WARMUP_SHARE = 0.1
# Of one_cycle: where the rate is highest, and where it starts.
PEAK_SHARE, START_SHARE = 0.4, 0.1
# What remains of the rate at the end of cosine and one_cycle.
LAST_SHARE = 0.01
STEP_FACTOR = 0.1


def make_optimizer(config: TrainingConfig, num_steps: int) -> keras.optimizers.Optimizer:
    """The optimizer for a training of so many steps.

    Raises:
        InputError: if there is no such optimizer or schedule, or a number is out of its range.
    """
    if config.optimizer not in OPTIMIZERS:
        raise InputError(f"Unknown optimizer {config.optimizer!r}. Allowed: {', '.join(OPTIMIZERS)}")
    if not 0 <= config.ema < 1:
        raise InputError(f"training.ema must be at least 0 and below 1. Received: {config.ema}")
    options = {
        "learning_rate": _schedule(config, num_steps),
        "weight_decay": config.weight_decay or None,
        "global_clipnorm": config.clip_norm,
    }
    if config.ema:
        # The mean replaces the weights when training ends, not before.
        options |= {"use_ema": True, "ema_momentum": config.ema, "ema_overwrite_frequency": None}
    if config.optimizer == "adam":
        return keras.optimizers.Adam(**options)
    return keras.optimizers.SGD(momentum=0.9, nesterov=True, **options)


def _schedule(config: TrainingConfig, num_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    schedules, rate = keras.optimizers.schedules, config.learning_rate
    if config.schedule == "step":
        if sorted(set(config.milestones)) != config.milestones or not all(
            0 < m < 1 for m in config.milestones
        ):
            raise InputError(
                "training.milestones must be rising fractions of all steps, between 0 and 1. Received: "
                f"{config.milestones}"
            )
        bounds = [round(each * num_steps) for each in config.milestones]
        rates = [rate * STEP_FACTOR**drops for drops in range(len(bounds) + 1)]
        return schedules.PiecewiseConstantDecay(bounds, rates)
    if config.schedule == "one_cycle":
        rise = round(PEAK_SHARE * num_steps)
        return OneCycle(rate, rise, num_steps)
    if config.schedule != "cosine":
        raise InputError(f"Unknown schedule {config.schedule!r}. Allowed: cosine, one_cycle, step")
    warmup = round(WARMUP_SHARE * num_steps)
    return schedules.CosineDecay(
        rate / 10,
        decay_steps=num_steps - warmup,
        alpha=LAST_SHARE,
        warmup_target=rate,
        warmup_steps=warmup,
    )


@keras.saving.register_keras_serializable(package="rdi_keras")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Rises in a straight line to the highest rate, and falls in one to a hundredth of it.

    Source: Smith & Topin 2017 (arXiv:1708.07120); the straight fall is Wong et al.'s, ICLR 2020.

    Args:
        learning_rate: the highest.
        rise: steps until then.
        num_steps: all steps.
    """

    def __init__(self, learning_rate: float, rise: int, num_steps: int):
        self.learning_rate, self.rise, self.num_steps = learning_rate, rise, num_steps

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        up = START_SHARE + (1 - START_SHARE) * step / max(self.rise, 1)
        down = 1 - (1 - LAST_SHARE) * (step - self.rise) / max(self.num_steps - self.rise, 1)
        return self.learning_rate * keras.ops.maximum(keras.ops.where(step < self.rise, up, down), LAST_SHARE)

    def get_config(self) -> dict:
        return {"learning_rate": self.learning_rate, "rise": self.rise, "num_steps": self.num_steps}
