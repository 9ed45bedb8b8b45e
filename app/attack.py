"""Attacks one image of a model, step by step."""

import re
from dataclasses import asdict, dataclass

import numpy as np

from app.decision import Decision
from rdi_keras.attacks import APGD, Attack, Solver, Square, Trace, TracedAttack, fgsm, mi_fgsm, objective, pgd
from rdi_keras.errors import InputError
from rdi_keras.serving import Predictor

SEED = 0
DEFAULT_EPSILON = 8 / 255  # Where the model was trained against none.
WRONG, CHOSEN, LATE = "a wrong answer", "a chosen wrong answer", "a late exit"
GOALS = {
    WRONG: "whatever it is",
    CHOSEN: "the class you name, at every exit",
    LATE: "it costs compute, and no accuracy",
}
OBJECTIVES = {
    "exit_aware": "the exit it would leave at",
    "average": "the mean over all exits",
    "max_average": "each exit alone, best mean kept",
    "targeted_exit": "each exit, each wrong class",
    "multi_targeted": "the margin at each exit to each wrong class",
    "soft_exit": "all exits, by how likely it leaves there",
    "forced_exit": "each exit, made to leave there",
    "ensemble": "the mean of all exits' answers",
    "random_exit": "an exit drawn by chance",
    "exit_aware_margin": "the margin at the exit it would leave at",
    "exit_aware_dlr": "the same, freed of the logits' scale",
    "main": "the last exit",
}
LATE_OBJECTIVES = {
    "slowdown": "leave as late as can be",
    "slowdown_keeping_label": "leave late, and still answer right",
}
SOLVERS = {
    "PGD": "projected gradient steps",
    "APGD": "chooses its own step size",
    "MI-FGSM": "steps with momentum",
    "FGSM": "one step",
    "Square": "random squares, no gradient",
}
# Compiled loops of a model that are kept; one takes some megabytes.
MAX_LOOPS = 32


@dataclass(frozen=True)
class Settings:
    """An attack as chosen on the page.

    Attributes:
        objective: a name that `rdi_keras.attacks.objective` knows.
        solver: one of `SOLVERS`.
        epsilon: the largest change of a pixel, where pixels lie in [0, 1].
        num_steps: gradient steps, or queries of Square.
        restarts: how often to start anew.
    """

    objective: str
    solver: str
    epsilon: float
    num_steps: int
    restarts: int = 1

    @property
    def target(self) -> int | None:
        """The class chosen, where the goal is one."""
        found = re.fullmatch(r"targeted\((\d+)\)", self.objective)
        return int(found[1]) if found else None

    def attack(self) -> Attack:
        """The attack itself.

        Raises:
            InputError: if a field is not allowed.
        """
        return Attack(objective(self.objective), self._solver())

    def _solver(self) -> Solver:
        if self.solver not in SOLVERS:
            raise InputError(f"Unknown solver {self.solver!r}. Allowed: {', '.join(SOLVERS)}")
        if self.solver == "PGD":
            return pgd(self.epsilon, self.num_steps, self.restarts)
        if self.solver == "APGD":
            return APGD(self.epsilon, self.num_steps, self.restarts)
        if self.solver == "Square":
            return Square(self.epsilon, self.num_steps, self.restarts)
        # From the image itself: another start would be the same.
        return mi_fgsm(self.epsilon, self.num_steps) if self.solver == "MI-FGSM" else fgsm(self.epsilon)

    def __str__(self) -> str:
        of_255 = f"{255 * self.epsilon:.3g}/255"
        count = f"{self.num_steps} steps, restarts: {self.restarts}"
        return f"{self.objective} by {self.solver}, ε = {of_255}, {count}"


def objectives(goal: str, num_exits: int, target: int | None = None) -> dict[str, str]:
    """The objectives that serve a goal, with a line about each.

    Args:
        goal: one of `GOALS`.
        num_exits: of the model.
        target: the class chosen, where the goal is one.
    """
    if goal == CHOSEN:
        return {f"targeted({target})": "that class at all exits alike"}
    if goal == LATE:
        return LATE_OBJECTIVES
    single = {f"single({number})": f"exit {number} alone" for number in range(1, num_exits + 1)}
    return OBJECTIVES | single


def epsilon_range(trained_against: float) -> tuple[float, float]:
    """Default and largest value of the choice of ε, in 255ths, for a model trained against some ε."""
    default = 255 * (trained_against or DEFAULT_EPSILON)
    return default, min(255.0, 4 * default)


def ready(predictor: Predictor, settings: Settings, loops: dict) -> TracedAttack:
    """The attack on a model. Its `trace` takes the model's thresholds, which the attacker knows, and `SEED`.

    Args:
        predictor: in this process, as gradients are needed.
        settings: of the attack.
        loops: where compiled loops of this model are kept.

    Raises:
        InputError: if the settings do not fit the model.
    """
    if len(loops) > MAX_LOOPS:
        loops.clear()
    return TracedAttack(settings.attack(), predictor, loops)


def perturbation(before: np.ndarray, after: np.ndarray, epsilon: float) -> np.ndarray:
    """The change as a picture: mid-grey is none, black is -ε, white is +ε."""
    return 0.5 + (after - before) / (2 * epsilon) if epsilon else np.full_like(before, 0.5)


def succeeded(before: Decision, after: Decision, label: int, settings: Settings) -> bool:
    """Whether the attack did what it was for, and what was not so before."""
    if settings.objective in LATE_OBJECTIVES:
        kept = after.label == label or settings.objective != "slowdown_keeping_label"
        return after.exit > before.exit and kept
    if settings.target is not None:
        return after.label == settings.target != before.label
    return before.label == label != after.label


def verdict(before: Decision, after: Decision, label: int, class_names: list[str], settings: Settings) -> str:
    """One or two plain sentences on what happened.

    Args:
        before: on the clean image.
        after: on the attacked image.
        label: the class that was attacked.
        class_names: of the model.
        settings: of the attack.
    """
    if before.label != label:
        text = (
            f"The answer was wrong before the attack: {before.answer} instead of {class_names[label]}. "
            f"It is {after.answer} now."
        )
    elif after.label == label:
        text = f"The answer is still {after.answer}."
    else:
        text = f"Fooled: {before.answer} became {after.answer}."
        if settings.target not in (None, after.label):
            text += f" The class chosen was {class_names[settings.target]}."
    if before.exit != after.exit:
        times = after.macs / before.macs
        text += f" It leaves at exit {after.exit} instead of {before.exit}: {times:.1f} × the compute."
    else:
        text += f" It leaves at exit {after.exit} as before."
    return text


def record(settings: Settings, trace: Trace, about: dict, before: Decision, after: Decision) -> dict:
    """An attack as JSON can hold it: what was run, and what it did.

    Args:
        settings: of the attack.
        trace: its way.
        about: which model and image, by whatever names.
        before: on the clean image.
        after: on the attacked image.
    """
    return {
        **about,
        "attack": asdict(settings) | {"seed": SEED, "epsilon_255": 255 * settings.epsilon},
        "reached": trace.reached,
        "runs": trace.runs,
        "runs_planned": trace.planned,
        "part": trace.part,
        "best_step": trace.best if trace.told else None,
        "before": asdict(before) | {"exit": before.exit, "saving": before.saving},
        "after": asdict(after) | {"exit": after.exit, "saving": after.saving},
    }
