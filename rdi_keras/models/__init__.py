"""Backbones, and what makes any of them a multi-exit Keras model."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from rdi_keras.errors import InputError
from rdi_keras.models.functional import from_backbone
from rdi_keras.models.heads import HEADS, light_head
from rdi_keras.models.mobilenet_v2 import mobilenet_v2
from rdi_keras.models.multi_exit import Backbone, MultiExitModel, Stage
from rdi_keras.models.resnet import DEPTHS, resnet, resnet18
from rdi_keras.models.small_cnn import small_cnn

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "small_cnn": small_cnn,
    **{f"resnet{depth}": partial(resnet, depth=depth) for depth in DEPTHS},
    "resnet18": resnet18,
    "mobilenet_v2": mobilenet_v2,
}
"""What makes a backbone, by the names that `backbone` takes."""
OPTIONS = ("exits_after", "heads", "width")


def backbone(name: str, input_shape: tuple[int, int, int], num_classes: int, **options: Any) -> Backbone:
    """Returns the backbone of this name.

    Args:
        name: one of `BACKBONES`.
        input_shape: `(height, width, channels)`.
        num_classes: length of the logits.
        **options: the backbone's own: `exits_after`, `heads`, and `width` for MobileNet-V2. `None` stands
            for its default.

    Raises:
        InputError: if there is no backbone of this name, or it has no such option or value.
    """
    if name not in BACKBONES:
        raise InputError(f"Unknown backbone {name!r}. Allowed: {', '.join(sorted(BACKBONES))}")
    options = {option: value for option, value in options.items() if value is not None}
    allowed = [each for each in inspect.signature(BACKBONES[name]).parameters if each in OPTIONS]
    if unknown := sorted(set(options) - set(allowed)):
        raise InputError(f"Backbone {name!r} has no option {unknown[0]!r}. Allowed: {', '.join(allowed)}")
    return BACKBONES[name](input_shape, num_classes, **options)


__all__ = [
    "BACKBONES",
    "DEPTHS",
    "HEADS",
    "Backbone",
    "MultiExitModel",
    "Stage",
    "backbone",
    "from_backbone",
    "light_head",
    "mobilenet_v2",
    "resnet",
    "resnet18",
    "small_cnn",
]


def __dir__() -> list[str]:
    return __all__
