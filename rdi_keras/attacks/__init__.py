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
from rdi_keras.attacks.losses import cross_entropy, divergence, dlr, margin
from rdi_keras.attacks.objectives import (
    Average,
    Divergence,
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
from rdi_keras.attacks.slowdown import Slowdown, WithSlowdown
from rdi_keras.attacks.solvers import NFGSM, PGD, REACH, GradientSolver, Solver, fgsm, mi_fgsm, pgd
from rdi_keras.attacks.square import Square
from rdi_keras.attacks.trace import AttackStoppedError, Trace, TracedAttack
from rdi_keras.attacks.wrm import WRM

SOLVERS: dict[str, type[Solver]] = {each.__name__: each for each in (PGD, NFGSM, APGD, Square, WRM)}
"""Solvers by the names that a saved model's configuration holds."""

__all__ = [
    "APGD",
    "L2",
    "NFGSM",
    "OBJECTIVES",
    "PGD",
    "REACH",
    "SOLVERS",
    "WRM",
    "Attack",
    "AttackStoppedError",
    "Average",
    "Ball",
    "CompiledAttack",
    "Divergence",
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
    "Trace",
    "TracedAttack",
    "WithSlowdown",
    "cross_entropy",
    "divergence",
    "dlr",
    "fgsm",
    "fooled",
    "margin",
    "mi_fgsm",
    "objective",
    "pgd",
]


def __dir__() -> list[str]:
    return __all__
