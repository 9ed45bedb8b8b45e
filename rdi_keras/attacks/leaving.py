"""Objectives that know where a sample leaves, and those that force it to leave at a given exit.

The decision to leave is a step: an attack that only follows the exit where the iterate leaves now can be
stopped by it. So there are also a smooth mixture over the exits, and every exit forced in turn.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import tensorflow as tf

from rdi_keras.attacks.losses import LOSSES, cross_entropy, margin, target_margin
from rdi_keras.attacks.objectives import Objective, Part, checked_exit, known, wrong_class
from rdi_keras.attacks.randomness import Draw
from rdi_keras.inference.policy import EntropyPolicy, entropy

# Entropies and thresholds are compared as logarithms, because thresholds span orders of magnitude; nats
# below this are as good as none.
LEAST_ENTROPY = 1e-6
# Past a margin of so many logits, or so much log-entropy, a condition holds and is pushed no further.
ENOUGH = 1.0


def log_room(logits: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """How far the entropy of logits `[B, C]` is below a threshold, in its logarithm `[B]`: > 0 leaves."""
    return tf.math.log(threshold + LEAST_ENTROPY) - tf.math.log(entropy(logits) + LEAST_ENTROPY)


@dataclass(frozen=True)
class ExitAware(Part):
    """Maximise the loss of the exit where the current iterate would really leave.

    The exit is decided anew at every step, with the thresholds known to the attacker.

    Attributes:
        loss_name: of that exit: `ce`, `margin` or `dlr`.
    """

    loss_name: str = "ce"
    needs_policy = True

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        losses = tf.stack([LOSSES[self.loss_name](each, aim) for each in logits], axis=1)
        return tf.gather(losses, known(policy).exit_of(logits) - 1, axis=1, batch_dims=1)

    def score(self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return self.loss(logits, labels, policy)

    def __str__(self) -> str:
        return "exit_aware" if self.loss_name == "ce" else f"exit_aware_{self.loss_name}"


@dataclass(frozen=True)
class SoftExit(Part):
    """Maximise the mean of all exits' losses, each weighted by a soft probability of leaving there.

    Each side exit lets a share σ(ln T_k − ln H_k) of what reaches it leave. The weights have a gradient
    too: towards where the loss is larger.
    """

    needs_policy = True

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        thresholds, inside, total = known(policy).thresholds, 1.0, 0.0
        for number, each in enumerate(logits[:-1]):
            leaves = tf.sigmoid(log_room(each, thresholds[..., number]))
            total += inside * leaves * cross_entropy(each, aim)
            inside *= 1 - leaves
        return total + inside * cross_entropy(logits[-1], aim)

    def __str__(self) -> str:
        return "soft_exit"


@dataclass(frozen=True)
class ForcedAt(Part):
    """Leave at one exit, not before, and be wrong there: a margin and the entropies' room, each capped.

    Attributes:
        exit_number: k, 1-based.
        rank: the wrong class to be taken for, 0 for the one most likely at exit k on the clean image;
            `None` for any. Which one selects the `aim` alone and takes no part in equality: all ranks
            share one compiled loop.
    """

    exit_number: int
    rank: int | None = field(default=None, compare=False)
    targeted: bool = field(init=False)
    needs_policy = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "targeted", self.rank is not None)

    def depth(self, num_exits: int) -> int:
        return checked_exit(self.exit_number, num_exits)

    def aim(self, logits: list[tf.Tensor], labels: tf.Tensor, draw: Draw) -> tf.Tensor:
        return labels if self.rank is None else wrong_class(logits[-1], labels, self.rank)

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        wrong = target_margin(logits[-1], aim) if self.targeted else margin(logits[-1], aim)
        conditions, thresholds = [wrong], known(policy).thresholds
        for number, each in enumerate(logits[: thresholds.shape[-1]]):
            room = log_room(each, thresholds[..., number])
            conditions.append(room if number == self.exit_number - 1 else -room)
        return tf.add_n([tf.minimum(each, ENOUGH) for each in conditions])

    def __str__(self) -> str:
        return f"forced_at({self.exit_number}{f', {self.rank}' if self.targeted else ''})"


@dataclass(frozen=True)
class TargetedAt(Part):
    """Minimise the cross-entropy of one wrong class at one exit: leave there, and be wrong.

    Attributes:
        exit_number: k, 1-based.
        rank: as for `ForcedAt`.
    """

    exit_number: int
    rank: int = field(compare=False)

    def depth(self, num_exits: int) -> int:
        return checked_exit(self.exit_number, num_exits)

    def aim(self, logits: list[tf.Tensor], labels: tf.Tensor, draw: Draw) -> tf.Tensor:
        return wrong_class(logits[-1], labels, self.rank)

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return -cross_entropy(logits[-1], aim)

    def __str__(self) -> str:
        return f"targeted_at({self.exit_number}, {self.rank})"


@dataclass(frozen=True)
class ForcedExit(Objective):
    """`ForcedAt` for every exit in turn, any wrong class."""

    needs_policy = True

    def parts(self, num_exits: int, num_classes: int) -> list[Part]:
        return [ForcedAt(number) for number in range(1, num_exits + 1)]

    def __str__(self) -> str:
        return "forced_exit"


@dataclass(frozen=True)
class EveryTarget(Objective):
    """Every exit × every wrong class, or only the most likely wrong ones.

    Attributes:
        num_targets: how many wrong classes per exit, the most likely first; `None` for all of them,
            at most `MAX_TARGETS`.
    """

    num_targets: int | None = None
    MAX_TARGETS = 9
    name: ClassVar[str]
    part: ClassVar[type[TargetedAt] | type[ForcedAt]]

    def parts(self, num_exits: int, num_classes: int) -> list[Part]:
        count = min(self.num_targets or self.MAX_TARGETS, num_classes - 1)
        return [self.part(number, rank) for rank in range(count) for number in range(1, num_exits + 1)]

    def __str__(self) -> str:
        return f"{self.name}({self.num_targets})" if self.num_targets else self.name


@dataclass(frozen=True)
class TargetedExit(EveryTarget):
    """`TargetedAt` for every exit and wrong class."""

    name, part = "targeted_exit", TargetedAt


@dataclass(frozen=True)
class MultiTargeted(EveryTarget):
    """`ForcedAt` for every exit and wrong class.

    Source: the margin towards each class in turn is that of Gowal et al. 2019 (arXiv:1910.09338).
    """

    needs_policy = True
    name, part = "multi_targeted", ForcedAt
