"""Attacks one image of a model, for a look at before and after."""

from dataclasses import dataclass

import numpy as np

from app.decision import Decision
from rdi_keras.attacks import Attack, CompiledAttack, objective, pgd
from rdi_keras.serving import Predictor

SEED = 0
DEFAULT_EPSILON = 8 / 255  # Where the model was trained against none.
OBJECTIVES = {
    "exit_aware": "the exit it would leave at",
    "average": "the mean over all exits",
    "max_average": "each exit alone, best mean kept",
    "targeted_exit": "each exit, each wrong class",
    "soft_exit": "all exits, by how likely it leaves there",
    "forced_exit": "each exit, made to leave there",
    "main": "the last exit",
    "slowdown": "compute: leave as late as can be",
}


@dataclass(frozen=True)
class Settings:
    """An attack as chosen on the page.

    Attributes:
        objective: a name that `rdi_keras.attacks.objective` knows.
        epsilon: the largest change of a pixel, where pixels lie in [0, 1].
        num_steps: gradient steps.
    """

    objective: str
    epsilon: float
    num_steps: int

    def attack(self) -> Attack:
        """The attack; its steps can cross the ball of radius ε."""
        return Attack(objective(self.objective), pgd(self.epsilon, self.num_steps))

    def __str__(self):
        return f"{self.objective}, ε = {self.epsilon:.3g}, {self.num_steps} steps"


def objectives(num_exits: int) -> dict[str, str]:
    """The objectives to choose from for a model, with a line about each."""
    single = {f"single({number})": f"exit {number}" for number in range(1, num_exits + 1)}
    return OBJECTIVES | single


def epsilon_range(trained_against: float) -> tuple[float, float, float]:
    """Default, largest value and step of the choice of ε for a model trained against some ε."""
    default = trained_against or DEFAULT_EPSILON
    return default, min(1.0, 4 * default), default / 10


def compile_attack(predictor: Predictor, settings: Settings) -> CompiledAttack:
    """An attack bound to a model; keep it, its first use compiles.

    Raises:
        InputError: if the settings do not fit the model.
    """
    return CompiledAttack(settings.attack(), predictor)


def attack_image(attack: CompiledAttack, image: np.ndarray, label: int, thresholds) -> np.ndarray:
    """One attacked image `[H, W, C]`, no pixel changed by more than ε.

    Args:
        attack: as `compile_attack` gave it.
        image: float32 `[H, W, C]` in [0, 1].
        label: the class to lead away from.
        thresholds: of the model, which the attacker knows.
    """
    return attack(image[None], [label], thresholds, seed=SEED).numpy()[0]


def perturbation(before: np.ndarray, after: np.ndarray, epsilon: float) -> np.ndarray:
    """The change as a picture: mid-grey is none, black is -ε, white is +ε."""
    return 0.5 + (after - before) / (2 * epsilon) if epsilon else np.full_like(before, 0.5)


def verdict(before: Decision, after: Decision, label: int, class_names: list[str]) -> tuple[bool, str]:
    """Whether the attack made a right answer wrong, and one plain sentence on what happened.

    Args:
        before: on the clean image.
        after: on the attacked image.
        label: the class that was attacked.
        class_names: of the model.
    """
    fooled = before.label == label != after.label
    if fooled:
        text = f"Fooled: {before.answer} became {after.answer}."
    elif before.label != label:
        text = (
            f"The answer was wrong before the attack: {before.answer} instead of {class_names[label]}. "
            f"It is {after.answer} now."
        )
    else:
        text = f"It held: the answer is still {after.answer}."
    if before.exit != after.exit:
        times = after.macs / before.macs
        text += f" It leaves at exit {after.exit} instead of {before.exit}: {times:.1f} × the compute."
    else:
        text += f" It leaves at exit {after.exit} as before."
    return fooled, text
