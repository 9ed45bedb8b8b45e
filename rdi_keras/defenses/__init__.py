"""Defences: losses over clean and attacked images, and the training step that uses them."""

from rdi_keras.defenses.callbacks import CalibrateThresholds, StopOnDivergence
from rdi_keras.defenses.robust_model import RobustModel

__all__ = ["CalibrateThresholds", "RobustModel", "StopOnDivergence"]
