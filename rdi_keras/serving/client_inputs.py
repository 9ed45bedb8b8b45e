"""What a client checks before it sends anything: the fit of inputs to what a signature takes."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from rdi_keras.checks import check_images
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


def check_budget(budget: ArrayLike, number: int) -> np.ndarray:
    """Returns fractions of the backbone's multiply-accumulates, float32 `[number]`.

    Raises:
        InputError: if it is neither one number nor one per image.
    """
    values = np.asarray(budget, np.float32)
    if values.shape not in ((), (number,)) or np.isnan(values).any():
        raise InputError(
            f"A budget is one fraction of the backbone's MACs, or {number}, one per image. Received: "
            f"shape {values.shape}, values {values.ravel()[:5].tolist()}"
        )
    return np.array(np.broadcast_to(values, number))


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


def _check_files(files: Sequence[bytes]) -> np.ndarray:
    files = [files] if isinstance(files, str | bytes) else list(files)
    wrong = next((each for each in files if not isinstance(each, bytes) or not each), None)
    if wrong is not None:
        raise InputError(
            "Files must be the contents of PNG or JPEG files, as bytes. Received: "
            f"{wrong!r:.40}. Read them with Path(...).read_bytes()"
        )
    array = np.empty(len(files), object)
    array[:] = files
    return array
