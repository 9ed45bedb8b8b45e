"""What a client checks before it sends anything: the fit of inputs to what a signature takes."""

import io
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from rdi_keras.checks import check_images
from rdi_keras.data.folder import MAX_PIXELS
from rdi_keras.errors import InputError
from rdi_keras.names import IMAGE_BYTES, IMAGES
from rdi_keras.serving.transports import Signature


def check_inputs(name: str, signature: Signature, inputs: dict[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Returns arrays of the dtypes and shapes that the signature takes, B the same for all.

    Args:
        name: the signature's.
        signature: what it takes.
        inputs: by name.

    Raises:
        InputError: if they are other inputs, or of other shapes, or images are not as `check_images` says.
    """
    if set(inputs) != set(signature.inputs):
        raise InputError(
            f"Signature {name!r} takes {', '.join(signature.inputs)}. Received: "
            f"{', '.join(inputs) or 'nothing'}"
        )
    arrays = {key: _check_input(key, spec, inputs[key]) for key, spec in signature.inputs.items()}
    lengths = {key: len(each) for key, each in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"Inputs must have one row per image each. Received numbers of rows: {lengths}")
    return arrays


def _check_input(key: str, spec: tf.TensorSpec, value: ArrayLike) -> np.ndarray:
    if key == IMAGES:
        return check_images(value, spec.shape[1:])
    if key == IMAGE_BYTES:
        return _check_files(value)
    try:
        array = np.asarray(value, spec.dtype.as_numpy_dtype)
    except (TypeError, ValueError) as error:
        raise InputError(f"Input {key!r} must be {spec.dtype.name} of shape {spec.shape}: {error}") from None
    if not spec.shape.is_compatible_with(array.shape):
        raise InputError(f"Input {key!r} must have shape {spec.shape}. Received: {array.shape}")
    return array


def _check_files(files: Any) -> np.ndarray:
    files = [files] if isinstance(files, str | bytes) else list(files)
    for position, file in enumerate(files):
        if reason := _unreadable(file):
            raise InputError(
                "Files must be the contents of PNG or JPEG files, as bytes, of at most "
                f"{MAX_PIXELS:,} pixels. File {position} of {len(files)} is {reason}. Read files with "
                "Path(...).read_bytes()"
            )
    array = np.empty(len(files), object)
    array[:] = files
    return array


def _unreadable(file: object) -> str | None:
    """Why a server would refuse the file, or `None`: one bad file fails the batch that it is in."""
    from PIL import Image

    if not isinstance(file, bytes) or not file:
        return f"{file!r:.40}"
    try:
        with Image.open(io.BytesIO(file), formats=["PNG", "JPEG"]) as image:
            if image.width * image.height > MAX_PIXELS:  # Decoded at full size before it is resized.
                return f"{image.width}×{image.height} pixels large"
            image.verify()  # Finds damaged PNG files, and closes them.
        with Image.open(io.BytesIO(file), formats=["PNG", "JPEG"]) as image:
            image.load()  # Finds truncated JPEG files.
    except Exception as error:  # Pillow passes on whatever its decoders raise.
        return f"damaged or of another kind ({error})"
    return None
