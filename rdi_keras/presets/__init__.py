"""Presets: whole configurations by name. Importing this package needs no TensorFlow."""

import inspect
from collections.abc import Callable

from rdi_keras.errors import InputError
from rdi_keras.presets.cifar10 import cifar10
from rdi_keras.presets.config import (
    AttackConfig,
    CalibrationConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    TrainingConfig,
)
from rdi_keras.presets.digits import digits
from rdi_keras.presets.fashion_mnist import fashion_mnist
from rdi_keras.presets.mnist import mnist

PRESETS: dict[str, Callable[[], Config]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
}
"""What makes a configuration, by the names that `preset` takes."""


def preset(name: str) -> Config:
    """Returns a new configuration of this name.

    Raises:
        InputError: if there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"Unknown preset {name!r}. Allowed: {', '.join(PRESETS)}")
    return PRESETS[name]()


def describe_presets() -> str:
    """All presets with what they say of their command, time and result."""
    return "\n\n".join(f"{name}\n{inspect.cleandoc(make.__doc__ or '')}" for name, make in PRESETS.items())


__all__ = [
    "PRESETS",
    "AttackConfig",
    "CalibrationConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "ModelConfig",
    "TrainingConfig",
    "describe_presets",
    "preset",
]


def __dir__() -> list[str]:
    return __all__
