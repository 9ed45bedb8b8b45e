"""Exit-aware adversarial attacks: objectives (what is maximised) apart from solvers (how)."""

from rdi_keras.attacks.attack import Attack, CompiledAttack, ExitNetwork, fooled
from rdi_keras.attacks.objectives import (
    Average,
    ExitAware,
    MaxAverage,
    Objective,
    Part,
    Single,
    TargetedAt,
    TargetedExit,
    cross_entropy,
    objective,
)
from rdi_keras.attacks.solvers import PGD, REACH, fgsm

__all__ = [
    "PGD",
    "REACH",
    "Attack",
    "Average",
    "CompiledAttack",
    "ExitAware",
    "ExitNetwork",
    "MaxAverage",
    "Objective",
    "Part",
    "Single",
    "TargetedAt",
    "TargetedExit",
    "cross_entropy",
    "fgsm",
    "fooled",
    "objective",
]
