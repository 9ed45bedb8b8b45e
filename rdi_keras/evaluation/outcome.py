"""What became of the samples under one condition, and its summary."""

from dataclasses import dataclass, fields

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from rdi_keras.attacks import ExitNetwork
from rdi_keras.evaluation.intervals import wilson
from rdi_keras.inference import CostTable, EntropyPolicy


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

        `interval` is the 95 % Wilson interval of the accuracy; `saving_own_branch_only` what the saving
        would be if heads passed on the way were free.
        """
        macs = np.asarray(cost.cumulative)[self.exit - 1]
        own_branch_only = np.asarray(cost.own_branch_only)[self.exit - 1]
        shares = np.bincount(self.exit, minlength=len(cost.heads) + 1)[1:] / len(self.exit)
        return {
            "accuracy": float(self.correct.mean()),
            "interval": list(wilson(int(self.correct.sum()), len(self.correct))),
            "mean_macs": float(macs.mean()),
            "saving": float(1 - macs.mean() / cost.backbone),
            "saving_own_branch_only": float(1 - own_branch_only.mean() / cost.backbone),
            "efficacy": efficacy(float(macs.mean()), cost),
            "exit_shares": shares.tolist(),
            "accuracy_per_exit": self.correct_per_exit.mean(axis=0).tolist(),
        }

    def take(self, index: np.ndarray) -> "Outcome":
        """The outcome of the samples at these positions."""
        return Outcome(*(getattr(self, each.name)[index] for each in fields(self)))

    def put(self, index: np.ndarray, other: "Outcome") -> "Outcome":
        """The same outcome, but for the samples at these positions, which have the other one."""
        changed = []
        for each in fields(self):
            values = getattr(self, each.name).copy()
            values[index] = getattr(other, each.name)
            changed.append(values)
        return Outcome(*changed)

    @classmethod
    def joined(cls, parts: list["Outcome"]) -> "Outcome":
        """Outcomes of several batches, one after the other."""
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))


def efficacy(mean_macs: float, cost: CostTable) -> float:
    """How early samples leave: 1 if all leave at the first exit, 0 if all leave at the last one.

    It is the area under the share of samples that has left against the compute spent, between the costs
    of the first and the last exit; with one exit it is 0. Source: Hong et al. (DeepSloth), ICLR 2021
    (arXiv:2010.02432), section 3, whose axis starts at no compute instead.
    """
    first, last = cost.cumulative[0], cost.cumulative[-1]
    return (last - mean_macs) / (last - first) if last > first else 0.0


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
    logits = network.logits(tf.constant(images))
    answers, exits = EntropyPolicy(np.asarray(thresholds, np.float32)).answer(logits)
    per_exit = np.stack([np.argmax(each, axis=-1) for each in logits], axis=1)
    return Outcome(
        correct=np.argmax(answers, axis=-1) == labels,
        exit=np.asarray(exits),
        correct_per_exit=per_exit == np.asarray(labels)[:, None],
    )
