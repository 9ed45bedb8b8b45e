"""The handwritten digits that scikit-learn ships: a whole run in minutes on a laptop."""

from rdi_keras.presets.config import Config


def digits() -> Config:
    """SmallCNN with three exits on 8×8 handwritten digits, L∞ ε = 0.1.

    Command: python training/fit.py --preset digits
    Time: TIME_DIGITS
    Result: RESULT_DIGITS
    """
    return Config()
