"""The lists of attacks that a report is made of."""

from collections.abc import Iterator
from dataclasses import dataclass

from rdi_keras.attacks import APGD, Attack, Solver, Square, mi_fgsm, objective, pgd
from rdi_keras.errors import InputError
from rdi_keras.names import parse_epsilon

EVERYONE = "everyone"
"""Run an attack on all samples: its own accuracy and cost are wanted, to stand beside published ones."""
STANDING = "standing"
"""Run it on those that the attacks before it left right, which is all that the worst case needs."""
PAPER = ("main", "average", "max_average")


@dataclass(frozen=True)
class Entry:
    """One attack of a suite.

    Attributes:
        name: of the condition in a report.
        attack: objective and solver.
        on: `everyone` or `standing`.
    """

    name: str
    attack: Attack
    on: str = EVERYONE


def _quick(epsilon: float) -> Iterator[Entry]:
    for name in ("exit_aware", "average", "max_average", "targeted_exit(2)"):
        yield _entry(name, pgd(epsilon, 20), EVERYONE)


def _standard(epsilon: float) -> Iterator[Entry]:
    for name in (*PAPER, "exit_aware"):
        yield _entry(name, pgd(epsilon, 40, restarts=2), EVERYONE)
    for name in ("apgd_ce", "apgd_dlr"):
        objective_name = "exit_aware" if name == "apgd_ce" else "exit_aware_dlr"
        yield Entry(name, Attack(objective(objective_name), APGD(epsilon, 50)), STANDING)
    for name in ("soft_exit", "forced_exit", "ensemble", "random_exit", "targeted"):
        yield _entry(name, pgd(epsilon, 40, restarts=2), STANDING)
    yield _entry("targeted_exit", pgd(epsilon, 20), STANDING)
    yield _entry("multi_targeted(2)", pgd(epsilon, 20), STANDING)
    yield Entry("square", Attack(objective("exit_aware_margin"), Square(epsilon, 500)), STANDING)
    yield _entry("slowdown", pgd(epsilon, 40, restarts=2), EVERYONE)


def _full(epsilon: float) -> Iterator[Entry]:
    yield from _standard(epsilon)
    for name in ("average", "exit_aware", "soft_exit"):
        yield _entry(name, pgd(epsilon, 100, restarts=5), STANDING, f"{name}_pgd100")
    for name in ("average", "exit_aware", "exit_aware_dlr"):
        yield Entry(f"{name}_apgd100", Attack(objective(name), APGD(epsilon, 100, restarts=2)), STANDING)
    yield Entry("exit_aware_mi_fgsm", Attack(objective("exit_aware"), mi_fgsm(epsilon, 40)), STANDING)
    yield _entry("multi_targeted", pgd(epsilon, 50), STANDING)
    yield _entry("targeted_exit", pgd(epsilon, 100), STANDING, "targeted_exit_pgd100")
    square = Square(epsilon, 5000)
    yield Entry("square5000", Attack(objective("exit_aware_margin"), square), STANDING)
    yield _entry("slowdown_keeping_label", pgd(epsilon, 40, restarts=2), EVERYONE)


SUITES = {"quick": _quick, "standard": _standard, "full": _full}
"""What gives the attacks of a suite at an ε, by the names that `suite` takes."""


def suite(name: str, epsilon: float | str) -> list[Entry]:
    """Returns an attack list, in the order in which it is run.

    `quick` is for a first look; `standard` is what reports are judged by; `full` is `standard` and more of
    everything, to see whether `standard` is enough. PGD's steps are 2.5 · ε / steps, so that every
    attack can cross the ball.

    Args:
        name: `quick`, `standard` or `full`.
        epsilon: radius of the L∞ ball, in pixel units.

    Raises:
        InputError: if there is no suite of this name.
    """
    if name not in SUITES:
        raise InputError(f"Unknown attack suite {name!r}. Allowed: {', '.join(SUITES)}")
    return list(SUITES[name](parse_epsilon(epsilon)))


def _entry(name: str, solver: Solver, on: str, condition: str | None = None) -> Entry:
    return Entry(condition or name, Attack(objective(name), solver), on)
