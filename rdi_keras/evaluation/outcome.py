"""What attacks do to a network: outcomes per sample, and their summary."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rdi_keras.attacks import Attack, CompiledAttack, ExitNetwork
from rdi_keras.data import Split
from rdi_keras.inference import CostTable, EntropyPolicy

# Rounding of float32 sums may carry a pixel this far over the edge of the ball.
BALL_TOLERANCE = 1e-6
# Between the seeds of two attacks; more than any set has samples, so that no two batches share one.
SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Outcome:
    """What became of `n` samples under one condition.

    Attributes:
        correct: bool `[n]`, whether the adaptive answer is right.
        exit: int32 `[n]`, 1-based.
        correct_per_exit: bool `[n, N]`, had every sample left at exit k.
    """

    correct: np.ndarray
    exit: np.ndarray
    correct_per_exit: np.ndarray

    def summary(self, cost: CostTable) -> dict:
        """A condition as `report.json` holds it; MACs are cumulative.

        `saving_own_branch_only` is what the saving would be if heads passed on the way were free.
        """
        macs = np.asarray(cost.cumulative)[self.exit - 1]
        own_branch_only = np.asarray(cost.own_branch_only)[self.exit - 1]
        shares = np.bincount(self.exit, minlength=len(cost.heads) + 1)[1:] / len(self.exit)
        return {
            "accuracy": float(self.correct.mean()),
            "mean_macs": float(macs.mean()),
            "saving": float(1 - macs.mean() / cost.backbone),
            "saving_own_branch_only": float(1 - own_branch_only.mean() / cost.backbone),
            "exit_shares": shares.tolist(),
            "accuracy_per_exit": self.correct_per_exit.mean(axis=0).tolist(),
        }


def worst_of(clean: Outcome, attacked: list[Outcome]) -> Outcome:
    """A sample is right only if it is right clean and under every attack.

    Its exit, and so its cost, is the latest that any attack drove it to: the latest exit is the
    dearest one, since costs are cumulative.
    """
    everything = [clean, *attacked]
    return Outcome(
        correct=np.logical_and.reduce([each.correct for each in everything]),
        exit=np.maximum.reduce([each.exit for each in attacked or [clean]]),
        correct_per_exit=np.logical_and.reduce([each.correct_per_exit for each in everything]),
    )


def judge(network: ExitNetwork, images: np.ndarray, labels: np.ndarray, thresholds: ArrayLike) -> Outcome:
    """Runs every exit on the images and decides, sample by sample, what the network answers."""
    logits = network.logits(images)
    answers, exits = EntropyPolicy(np.asarray(thresholds, np.float32)).answer(logits)
    per_exit = np.stack([np.argmax(each, axis=-1) for each in logits], axis=1)
    return Outcome(
        correct=np.argmax(answers, axis=-1) == labels,
        exit=np.asarray(exits),
        correct_per_exit=per_exit == np.asarray(labels)[:, None],
    )


def run_conditions(
    network: ExitNetwork,
    thresholds: ArrayLike,
    data: Split,
    attacks: dict[str, Attack],
    batch_size: int = 250,
    seed: int = 0,
    on_batch: Callable[[str], None] = lambda condition: None,
) -> dict[str, Outcome]:
    """Judges a network clean, under each attack, and in the worst case.

    An attack is not trusted: what it returns must lie inside the ball and is judged anew.

    Args:
        network: under attack; in inference mode.
        thresholds: `[N-1]` in nats, known to the attacker.
        data: the samples.
        attacks: condition names and attacks.
        batch_size: samples attacked at once.
        seed: every attack and batch gets a seed of its own from it.
        on_batch: called after each batch with the condition's name.

    Returns:
        `clean`, each attack's name and `worst_case`, mapped to outcomes.
    """
    starts = range(0, len(data), batch_size)

    def run(condition: str, make_images: Callable[[Split, int], np.ndarray]) -> Outcome:
        parts = []
        for start in starts:
            batch = data.take(slice(start, start + batch_size))
            parts.append(judge(network, make_images(batch, start), batch.labels, thresholds))
            on_batch(condition)
        fields = ([getattr(part, name) for part in parts] for name in Outcome.__annotations__)
        return Outcome(*map(np.concatenate, fields))

    outcomes = {"clean": run("clean", lambda batch, start: batch.images)}
    for index, (name, attack) in enumerate(attacks.items()):
        compiled = CompiledAttack(attack, network)
        perturb = functools.partial(_perturb, compiled, thresholds, seed + SEED_STRIDE * index)
        outcomes[name] = run(name, perturb)
    outcomes["worst_case"] = worst_of(outcomes["clean"], [outcomes[name] for name in attacks])
    return outcomes


def _perturb(
    compiled: CompiledAttack, thresholds: ArrayLike, seed: int, batch: Split, start: int
) -> np.ndarray:
    adversarial = compiled(batch.images, batch.labels, thresholds, seed + start).numpy()
    epsilon = compiled.attack.solver.epsilon
    distance = np.abs(adversarial - batch.images).max()
    if not (distance <= epsilon + BALL_TOLERANCE and 0 <= adversarial.min() <= adversarial.max() <= 1):
        raise ArithmeticError(
            f"The attack {compiled.attack} left its ball: distance {distance}, epsilon {epsilon}, "
            f"values {adversarial.min()} to {adversarial.max()}"
        )
    return adversarial
