"""Exit-aware adversarial attacks: objectives (what is maximised) apart from solvers (how)."""

from rdi_keras.attacks.apgd import APGD
from rdi_keras.attacks.attack import Attack, CompiledAttack, ExitNetwork
from rdi_keras.attacks.balls import L2, Ball, Linf
from rdi_keras.attacks.leaving import (
    ExitAware,
    ForcedAt,
    ForcedExit,
    MultiTargeted,
    SoftExit,
    TargetedAt,
    TargetedExit,
)
from rdi_keras.attacks.losses import cross_entropy, dlr, margin
from rdi_keras.attacks.objectives import (
    Average,
    Ensemble,
    MaxAverage,
    Objective,
    Part,
    RandomExit,
    Single,
    Targeted,
    fooled,
)
from rdi_keras.attacks.registry import OBJECTIVES, objective
from rdi_keras.attacks.slowdown import Slowdown
from rdi_keras.attacks.solvers import PGD, REACH, GradientSolver, Solver, fgsm, mi_fgsm, pgd
from rdi_keras.attacks.square import Square
from rdi_keras.attacks.wrm import WRM

# Solvers by the names that a saved model's configuration holds.
SOLVERS: dict[str, type[Solver]] = {each.__name__: each for each in (PGD, APGD, Square, WRM)}

__all__ = [
    "APGD",
    "L2",
    "OBJECTIVES",
    "PGD",
    "REACH",
    "SOLVERS",
    "WRM",
    "Attack",
    "Average",
    "Ball",
    "CompiledAttack",
    "Ensemble",
    "ExitAware",
    "ExitNetwork",
    "ForcedAt",
    "ForcedExit",
    "GradientSolver",
    "Linf",
    "MaxAverage",
    "MultiTargeted",
    "Objective",
    "Part",
    "RandomExit",
    "Single",
    "Slowdown",
    "SoftExit",
    "Solver",
    "Square",
    "Targeted",
    "TargetedAt",
    "TargetedExit",
    "cross_entropy",
    "dlr",
    "fgsm",
    "fooled",
    "margin",
    "mi_fgsm",
    "objective",
    "pgd",
]
