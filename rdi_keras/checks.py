"""Checks of what users hand in: images, labels, thresholds."""

from collections.abc import Sequence
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike

from rdi_keras.errors import InputError


def check_images(images: ArrayLike, input_shape: Sequence[int] | None = None) -> np.ndarray:
    """Returns the images as a float32 array if a model can take them.

    Args:
        images: an array, or an eager tensor.
        input_shape: `(H, W, C)` of the model; `None` for any.

    Raises:
        InputError: wrong rank or size, integers, not-a-number, or values outside [0, 1].
    """
    try:
        images = np.asarray(images)
    except ValueError:
        raise InputError(
            "Images must be one array of images of one size. Received: images of several sizes. Resize them"
        ) from None
    expected = ("H", "W", "C") if input_shape is None else tuple(input_shape)
    if images.ndim != 4 or (input_shape is not None and images.shape[1:] != expected):
        raise InputError(
            f"Images must have shape (B, {', '.join(map(str, expected))}). Received: {images.shape}"
        )
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(
            f"Images must be float32 in [0, 1]. Received dtype: {images.dtype}. Divide uint8 pixels by 255"
        )
    inside = ((images >= 0) & (images <= 1)).all(axis=(1, 2, 3))
    if not inside.all():
        first = int(np.argmin(inside))
        raise InputError(
            f"Images must lie in [0, 1] and hold no NaN. Received values from {images[first].min():.4g} to "
            f"{images[first].max():.4g} in image {first}; {np.sum(~inside)} of {len(images)} are bad"
        )
    return images.astype(np.float32)


def check_batch_size(batch_size: int) -> None:
    """Raises `InputError` if so many images cannot run at once."""
    if not isinstance(batch_size, Integral) or isinstance(batch_size, bool):
        raise InputError(f"batch_size must be a whole number. Received: {batch_size!r}")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1. Received: {batch_size}")


def check_labels(labels: ArrayLike, num_samples: int, num_classes: int) -> np.ndarray:
    """Returns the labels as an int64 array `[num_samples]`.

    Raises:
        InputError: not one integer from 0 to `num_classes` - 1 per sample.
    """
    labels = np.asarray(labels)
    whole = np.issubdtype(labels.dtype, np.integer)
    if (
        labels.shape != (num_samples,)
        or not whole
        or (labels.size and not (0 <= labels.min() <= labels.max() < num_classes))
    ):
        raise InputError(
            f"Labels must be {num_samples} integers from 0 to {num_classes - 1}, one per image. Received: "
            f"shape {labels.shape}, dtype {labels.dtype}, values {labels.ravel()[:5].tolist()}"
        )
    return labels.astype(np.int64)


def check_thresholds(thresholds: ArrayLike, num_exits: int) -> np.ndarray:
    """Returns the thresholds as a float32 array `[num_exits - 1]`.

    Raises:
        InputError: if they are of another number, or one is not a number.
    """
    values = _numbers(thresholds, "Thresholds")
    if values.shape != (num_exits - 1,) or np.isnan(values).any():
        raise InputError(
            f"The model has {num_exits} exits and takes {num_exits - 1} thresholds in nats. Received: "
            f"{np.asarray(thresholds).tolist()}"
        )
    return values


def check_sample_thresholds(thresholds: ArrayLike, num_samples: int, num_exits: int) -> np.ndarray:
    """Returns thresholds per sample, float32 `[num_samples, num_exits - 1]`.

    Args:
        thresholds: of that shape, or `[num_exits - 1]` for all samples alike.
        num_samples: B.
        num_exits: N.

    Raises:
        InputError: if they are neither, or one is not a number.
    """
    values = _numbers(thresholds, "Thresholds")
    if values.ndim < 2:
        return np.tile(check_thresholds(values, num_exits), (num_samples, 1))
    if values.shape != (num_samples, num_exits - 1) or np.isnan(values).any():
        raise InputError(
            f"Thresholds per sample must be numbers of shape {(num_samples, num_exits - 1)}. Received: shape "
            f"{values.shape}, values {values.ravel()[:5].tolist()}"
        )
    return values


def check_budget(budget: ArrayLike, num_samples: int) -> np.ndarray:
    """Returns fractions of the backbone's multiply-accumulates, float32 `[num_samples]`.

    Raises:
        InputError: if it is neither one number nor one per image.
    """
    values = _numbers(budget, "A budget")
    if values.shape not in ((), (num_samples,)) or np.isnan(values).any():
        raise InputError(
            f"A budget is one fraction of the backbone's MACs, or {num_samples}, one per image. Received: "
            f"shape {values.shape}, values {values.ravel()[:5].tolist()}"
        )
    return np.array(np.broadcast_to(values, num_samples))


def _numbers(values: ArrayLike, what: str) -> np.ndarray:
    """As a float32 array; `InputError` if they are no numbers, or lists of several lengths."""
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{what} must be numbers. Received: {values!s:.80}") from None
