"""Objectives by name."""

import re

from rdi_keras.attacks.leaving import ExitAware, ForcedExit, MultiTargeted, SoftExit, TargetedExit
from rdi_keras.attacks.objectives import (
    Average,
    Divergence,
    Ensemble,
    MaxAverage,
    Objective,
    RandomExit,
    Single,
    Targeted,
)
from rdi_keras.attacks.slowdown import Slowdown, WithSlowdown
from rdi_keras.errors import InputError

OBJECTIVES = {
    str(each): each
    for each in (
        Single(),
        Average(),
        MaxAverage(),
        ExitAware(),
        ExitAware("margin"),
        ExitAware("dlr"),
        SoftExit(),
        ForcedExit(),
        TargetedExit(),
        MultiTargeted(),
        Targeted(),
        RandomExit(),
        Ensemble(),
        Divergence(),
        Slowdown(),
        Slowdown(keep_label=True),
    )
}
"""Objectives by the names that `objective` takes, those with a number left out."""
# Those that take a number, and what it is.
WITH_NUMBER = {
    "single": (Single, "exit"),
    "targeted_exit": (TargetedExit, "classes"),
    "multi_targeted": (MultiTargeted, "classes"),
    "targeted": (Targeted, "class"),
}


def objective(name: str) -> Objective:
    """Returns the objective of this name, e.g. `"average"`, `"single(2)"`, `"targeted_exit(2)"`.

    Raises:
        InputError: if there is none of this name.
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    if slowed := re.fullmatch(r"(.+)\+slowdown\((\d+\.?\d*(?:e-?\d+)?)\)", name):
        return WithSlowdown(objective(slowed[1]), float(slowed[2]))
    match = re.fullmatch(r"(\w+)\((\d{1,6})\)", name)
    if match and match[1] in WITH_NUMBER:
        make, what = WITH_NUMBER[match[1]]
        if int(match[2]) > 0 or what == "class":
            return make(int(match[2]))
    allowed = [*OBJECTIVES, *(f"{name}({what})" for name, (_, what) in WITH_NUMBER.items())]
    allowed.append("one of these with +slowdown(weight)")
    raise InputError(f"Unknown attack objective {name!r}. Allowed: {', '.join(allowed)}")
