"""Defences: losses over clean and attacked images, and the training step that uses them."""

from rdi_keras.defenses.callbacks import CalibrateThresholds, OverfittingProbe, StopOnDivergence
from rdi_keras.defenses.losses import (
    ExitTerm,
    Mart,
    Mix,
    NeighbourDistillation,
    OrthogonalDistillation,
    RobustLoss,
    SplitMix,
    Trades,
)
from rdi_keras.defenses.replay import CarriedPerturbation
from rdi_keras.defenses.robust_model import RobustModel

__all__ = [
    "CalibrateThresholds",
    "CarriedPerturbation",
    "ExitTerm",
    "Mart",
    "Mix",
    "NeighbourDistillation",
    "OrthogonalDistillation",
    "OverfittingProbe",
    "RobustLoss",
    "RobustModel",
    "SplitMix",
    "StopOnDivergence",
    "Trades",
]


def __dir__() -> list[str]:
    return __all__
