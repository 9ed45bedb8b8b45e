"""Training steps in a quicker number format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from rdi_keras.errors import InputError

PRECISIONS = ("float32", "bfloat16")
# TensorFlow's own rewriting of graphs; it leaves what needs the digits, such as losses, in float32.
BFLOAT16_OPTION = "auto_mixed_precision_onednn_bfloat16"


def computes_bfloat16() -> bool:
    """Whether this machine's CPU multiplies matrices in bfloat16 (AMX).

    AVX512-BF16 alone has instructions for it too, but made steps slower: docs/training.md.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:  # Where the system has no such file, TensorFlow has no such instructions either.
        return False
    return "amx_bf16" in flags.split()


def precision_here(name: str) -> str:
    """In what training steps of a precision compute on this machine."""
    return name if computes_bfloat16() else "float32"


def in_precision(name: str, step: Callable) -> Callable:
    """A compiled function that computes in some precision; inputs, outputs and variables stay float32.

    Only calls of what is returned are changed: TensorFlow keeps a compiled version for each setting.

    Args:
        name: `float32`, or `bfloat16`: convolutions and matrix products on a CPU with AMX.
        step: a `tf.function`.

    Raises:
        InputError: if the precision is none of these.
    """
    if name not in PRECISIONS:
        raise InputError(f"Unknown training.precision {name!r}. Allowed: {', '.join(PRECISIONS)}")
    if precision_here(name) == "float32":
        return step

    def call(*arguments: Any) -> Any:
        before = tf.config.optimizer.get_experimental_options().get(BFLOAT16_OPTION, False)
        tf.config.optimizer.set_experimental_options({BFLOAT16_OPTION: True})
        try:
            return step(*arguments)
        finally:
            tf.config.optimizer.set_experimental_options({BFLOAT16_OPTION: before})

    return call
