"""Runs a suite on a network: the attacks in order, each on those that it is meant for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from rdi_keras.attacks import CompiledAttack, ExitNetwork, Linf
from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.evaluation.outcome import Outcome, judge, worst_of
from rdi_keras.evaluation.suite import STANDING, Entry

CLEAN, WORST_CASE = "clean", "worst_case"


@dataclass(frozen=True)
class Batch:
    """What a finished batch left: the outcome of its samples and what it took.

    Attributes:
        samples: their numbers in the data, `[b]`.
        outcome: of the batch's samples.
        passes: forward and backward passes through the network, summed over samples.
    """

    samples: np.ndarray
    outcome: Outcome
    passes: tuple[int, int]


class Shelf(Protocol):
    """Where finished batches are kept, so that an interrupted run does not repeat them."""

    def get(self, condition: str, number: int) -> Batch | None:
        """The batch of this number, if it was finished before."""

    def put(self, condition: str, number: int, batch: Batch) -> None:
        """Keeps a finished batch."""


@dataclass(frozen=True)
class Conditions:
    """What a suite did to a network.

    Attributes:
        outcomes: `clean`, each attack's name and `worst_case`, mapped to outcomes of all samples. An
            attack that was run on the standing alone leaves the others as they were broken.
        attacked: attack's name → how many samples it was run on.
        passes: attack's name → forward and backward passes, summed over samples.
    """

    outcomes: dict[str, Outcome]
    attacked: dict[str, int]
    passes: dict[str, tuple[int, int]]


def run_suite(
    network: ExitNetwork,
    thresholds: ArrayLike,
    data: Split,
    suite: Sequence[Entry],
    batch_size: int = 250,
    seed: int = 0,
    shelf: Shelf | None = None,
    on_batch: Callable[[str, int], None] = lambda condition, num_samples: None,
    loops: dict | None = None,
) -> Conditions:
    """Judges a network clean, under each attack of a suite, and in the worst case.

    An attack is not trusted: what it returns must lie inside its ball and is judged anew. What is drawn for
    a sample depends on the seed, the attack and the sample, so that the batch size does not matter.

    Args:
        network: under attack; in inference mode.
        thresholds: `[N-1]` in nats, known to the attacker.
        data: the samples.
        suite: attacks in order.
        batch_size: samples attacked at once.
        seed: every attack and sample gets a seed of its own from it.
        shelf: keeps finished batches; must be of the same network, samples, suite, batch size and seed.
        on_batch: called after each batch with the condition's name and its number of samples.
        loops: see `CompiledAttack`; for several runs on the same network.

    Raises:
        InputError: if an attack keeps to another ball than L∞, or to another radius than the others.
        ArithmeticError: if an attack left its ball.
    """

    def run(name: str, who: np.ndarray, make: Callable, count: Callable) -> tuple[Outcome, tuple[int, int]]:
        batches = []
        for number, start in enumerate(range(0, len(who), batch_size)):
            samples = who[start : start + batch_size]
            batch = None if shelf is None else shelf.get(name, number)
            # Which samples an attack on the standing meets depends on the attacks before it.
            if batch is None or not np.array_equal(batch.samples, samples):
                part = data.take(samples)
                before = count()
                outcome = judge(network, make(part, samples), part.labels, thresholds)
                spent = tuple(after - old for after, old in zip(count(), before, strict=True))
                batch = Batch(samples, outcome, spent)
                if shelf is not None:
                    shelf.put(name, number, batch)
            batches.append(batch)
            on_batch(name, len(samples))
        forward, backward = np.sum([each.passes for each in batches], axis=0).tolist()
        return Outcome.joined([each.outcome for each in batches]), (forward, backward)

    balls = {(entry.attack.solver.norm, entry.attack.solver.epsilon) for entry in suite}
    if len(balls) > 1 or any(norm != "linf" for norm, _ in balls):
        raise InputError(
            "A suite's attacks must share one L∞ ball: the worst case is that of one threat model. Received: "
            f"{', '.join(f'{norm} {epsilon}' for norm, epsilon in sorted(balls))}. Run other attacks apart"
        )
    everyone = np.arange(len(data))
    loops = {} if loops is None else loops
    clean, _ = run(CLEAN, everyone, lambda part, samples: part.images, lambda: (0, 0))
    broken, outcomes, attacked, passes = clean, {CLEAN: clean}, {}, {}
    for number, entry in enumerate(suite):
        who = np.flatnonzero(broken.correct) if entry.on == STANDING else everyone
        if not entry.attack.runs(network):  # Nothing to slow down with one exit.
            outcomes[entry.name], attacked[entry.name], passes[entry.name] = clean, 0, (0, 0)
            continue
        compiled = CompiledAttack(entry.attack, network, loops)

        def perturb(
            part: Split, samples: np.ndarray, compiled: CompiledAttack = compiled, number: int = number
        ) -> np.ndarray:
            return _perturb(compiled, part, thresholds, (seed, number), samples)

        attacked[entry.name], passes[entry.name], outcome = len(who), (0, 0), broken
        if len(who):
            found, passes[entry.name] = run(
                entry.name, who, perturb, lambda compiled=compiled: (compiled.forward, compiled.backward)
            )
            outcome = broken.put(who, found)
        outcomes[entry.name] = outcome
        newly = np.flatnonzero(broken.correct & ~outcome.correct)
        broken = broken.put(newly, outcome.take(newly))
    outcomes[WORST_CASE] = worst_of(clean, [outcomes[entry.name] for entry in suite])
    return Conditions(outcomes, attacked, passes)


def _perturb(
    compiled: CompiledAttack, part: Split, thresholds: ArrayLike, seed: tuple[int, int], samples: np.ndarray
) -> np.ndarray:
    adversarial = compiled(part.images, part.labels, thresholds, seed, samples)
    ball = Linf(compiled.attack.solver.epsilon)
    if not np.isfinite(adversarial).all() or not ball.holds(adversarial, part.images):
        raise ArithmeticError(
            f"The attack {compiled.attack} left its ball: distance "
            f"{np.max(ball.distance(adversarial, part.images))}, epsilon {ball.epsilon}, values "
            f"{np.min(adversarial)} to {np.max(adversarial)}"
        )
    return adversarial.numpy()
