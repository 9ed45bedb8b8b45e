"""From a configuration to a trained, calibrated model, through interruptions."""

from rdi_keras.training.board import TrainingBoard
from rdi_keras.training.building import (
    build_attack,
    build_loss,
    build_model,
    check_numbers,
    load_data,
    take_trunk,
    take_weights,
)
from rdi_keras.training.calibrating import calibrate, calibrate_budgets, calibration_facts
from rdi_keras.training.checkpoints import Checkpoints, Progress
from rdi_keras.training.cluster import STRATEGIES, Cluster, join_cluster
from rdi_keras.training.fitting import VALIDATION_SAMPLES, checkpoints_of, decisive_settings, fit_model
from rdi_keras.training.loop import TrainingLoop
from rdi_keras.training.optimizers import OPTIMIZERS, OneCycle, make_optimizer
from rdi_keras.training.robust_calibration import (
    calibrate_finally,
    calibrate_robustly,
    robust_budget_table,
)
from rdi_keras.training.stopping import StopRequest
from rdi_keras.training.temperature import scale_temperatures

__all__ = [
    "OPTIMIZERS",
    "STRATEGIES",
    "VALIDATION_SAMPLES",
    "Checkpoints",
    "Cluster",
    "OneCycle",
    "Progress",
    "StopRequest",
    "TrainingBoard",
    "TrainingLoop",
    "build_attack",
    "build_loss",
    "build_model",
    "calibrate",
    "calibrate_budgets",
    "calibrate_finally",
    "calibrate_robustly",
    "calibration_facts",
    "check_numbers",
    "checkpoints_of",
    "decisive_settings",
    "fit_model",
    "join_cluster",
    "load_data",
    "make_optimizer",
    "robust_budget_table",
    "scale_temperatures",
    "take_trunk",
    "take_weights",
]


def __dir__() -> list[str]:
    return __all__
