"""The lists of attacks that a report is made of."""

from rdi_keras.attacks import PGD, REACH, Attack, objective
from rdi_keras.errors import InputError

# Parts of a list: how many steps and restarts a set of objectives gets.
SUITES = {
    "quick": [
        (20, 1, ("exit_aware", "average", "max_average", "targeted_exit(2)")),
    ],
    "standard": [
        (40, 2, ("main", "average", "max_average", "exit_aware")),
        (20, 1, ("targeted_exit",)),
    ],
}


def suite(name: str, epsilon: float) -> dict[str, Attack]:
    """Returns an attack list: condition names and the attacks to run.

    `quick` is for a first look; `standard` is what reports are judged by. Step sizes are
    2.5 · ε / steps, so that every attack can cross the ball.

    Args:
        name: `quick` or `standard`.
        epsilon: radius of the L∞ ball, in pixel units.

    Raises:
        InputError: if there is no suite of this name.
    """
    if name not in SUITES:
        raise InputError(f"Unknown attack suite {name!r}. Allowed: {', '.join(SUITES)}")
    return {
        each: Attack(
            objective(each),
            PGD(epsilon, num_steps=steps, step_size=REACH * epsilon / steps, restarts=restarts),
        )
        for steps, restarts, objectives in SUITES[name]
        for each in objectives
    }
