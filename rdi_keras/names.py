"""Names and units that several parts share, each said once."""

from fractions import Fraction

from rdi_keras.errors import InputError

IMAGES = "images"
IMAGE_BYTES = "bytes"
THRESHOLDS = "thresholds"
BUDGET = "budget"

# Signatures of an exported SavedModel.
SERVING_DEFAULT = "serving_default"
ADAPTIVE = "adaptive"
ALL_EXITS = "all_exits"
IMAGE_FILES = "image_bytes"
WITH_BUDGET = "budget"


def exit_name(number: int) -> str:
    """Returns the output name of the exit with this 1-based number, e.g. `exit_1`."""
    return f"exit_{number}"


def exit_names(num_exits: int) -> list[str]:
    """Returns the output names of all exits, in the order in which a sample meets them."""
    return [exit_name(number) for number in range(1, num_exits + 1)]


def parse_length(text: str | float, name: str = "epsilon") -> float:
    """Turns a length in pixel units such as `"8/255"`, `"0.1"` or `0.1` into a number.

    Args:
        text: a radius or a step size; images lie in [0, 1].
        name: what an error message calls it.

    Raises:
        InputError: if it is no number, or below 0.
    """
    value = _number(text, name)
    if value < 0:
        raise InputError(f"{name} must be at least 0. Received: {text!r}")
    return value


def parse_epsilon(text: str | float, name: str = "epsilon") -> float:
    """As `parse_length`, for a length that no pixel can exceed, an L∞ radius for one.

    Returns:
        A float between 0 and 1.

    Raises:
        InputError: if it is no number or lies outside [0, 1].
    """
    value = _number(text, name)
    if not 0 <= value <= 1:
        raise InputError(f"{name} must lie between 0 and 1, because images do. Received: {text!r}")
    return value


def _number(text: str | float, name: str) -> float:
    try:
        return float(Fraction(str(text)))
    except (ValueError, ArithmeticError):
        raise InputError(f"{name} must be a number or a fraction such as 8/255. Received: {text!r}") from None
