"""Backbones, and what makes any of them a multi-exit Keras model."""

from collections.abc import Callable
from typing import Any

from rdi_keras.errors import InputError
from rdi_keras.models.multi_exit import Backbone, MultiExitModel, Stage
from rdi_keras.models.small_cnn import small_cnn

BACKBONES: dict[str, Callable[..., Backbone]] = {"small_cnn": small_cnn}


def backbone(name: str, input_shape: tuple[int, int, int], num_classes: int, **options: Any) -> Backbone:
    """Returns the backbone of this name; `options` are its own (e.g. `exits_after`)."""
    if name not in BACKBONES:
        raise InputError(f"Unknown backbone {name!r}. Allowed: {', '.join(sorted(BACKBONES))}")
    return BACKBONES[name](input_shape, num_classes, **options)


__all__ = ["BACKBONES", "Backbone", "MultiExitModel", "Stage", "backbone", "small_cnn"]
