"""What an attack maximises: losses over the exits of a network, apart from how they are climbed."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import tensorflow as tf

from rdi_keras.errors import InputError
from rdi_keras.inference.policy import EntropyPolicy


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy per sample `[B]`, from logits `[B, C]`: softmax outputs would mask gradients."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def mean_cross_entropy(logits: list[tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
    """The mean over the exits of each sample's cross-entropy, `[B]`."""
    return tf.add_n([cross_entropy(each, labels) for each in logits]) / len(logits)


@dataclass(frozen=True)
class Objective(ABC):
    """One or several losses that are maximised in turn, and the score that ranks their results."""

    needs_policy = False

    @abstractmethod
    def parts(self, num_exits: int, num_classes: int) -> list["Part"]:
        """The single losses to maximise one after the other; per sample the best result is kept."""

    def score(self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        """Ranks the results of parts and restarts, `[B]`, from the logits of all exits."""
        return mean_cross_entropy(logits, labels)


@dataclass(frozen=True)
class Part(Objective):
    """One loss to maximise: an objective of its own, or a part of another one."""

    def parts(self, num_exits: int, num_classes: int) -> list["Part"]:
        return [self]

    def depth(self, num_exits: int) -> int:
        """The last exit (1-based) that the loss needs: nothing beyond it is run."""
        return num_exits

    def classes(self, logits: list[tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
        """The class per sample `[B]` that the loss refers to, chosen once on the clean image."""
        return labels

    @abstractmethod
    def loss(self, logits: list[tf.Tensor], classes: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        """The value to maximise per sample, `[B]`, from the logits of exits 1 … depth."""


@dataclass(frozen=True)
class Single(Part):
    """Maximise L_k of one exit; only the stages up to it run. Source: Hu et al. 2020, section 3.3.

    Attributes:
        exit_number: k, 1-based; `None` for the last exit, the paper's main-branch attack.
    """

    exit_number: int | None = None

    def depth(self, num_exits: int) -> int:
        return _checked_exit(self.exit_number or num_exits, num_exits)

    def loss(self, logits: list[tf.Tensor], classes: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return cross_entropy(logits[-1], classes)

    def score(self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return cross_entropy(logits[(self.exit_number or len(logits)) - 1], labels)

    def __str__(self):
        return f"single({self.exit_number})" if self.exit_number else "main"


@dataclass(frozen=True)
class Average(Part):
    """Maximise the mean of all exits' losses. Source: Hu et al. 2020, section 3.3."""

    def loss(self, logits: list[tf.Tensor], classes: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return mean_cross_entropy(logits, classes)

    def __str__(self):
        return "average"


@dataclass(frozen=True)
class MaxAverage(Objective):
    """Attack every exit alone; keep the result with the largest mean loss. Source: as `Average`."""

    def parts(self, num_exits: int, num_classes: int) -> list[Part]:
        return [Single(number) for number in range(1, num_exits + 1)]

    def __str__(self):
        return "max_average"


@dataclass(frozen=True)
class ExitAware(Part):
    """Maximise the loss of the exit where the current iterate would really leave.

    The exit is decided anew at every step, with the thresholds known to the attacker.
    """

    needs_policy = True

    def loss(self, logits: list[tf.Tensor], classes: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        losses = tf.stack([cross_entropy(each, classes) for each in logits], axis=1)
        return tf.gather(losses, policy.exit_of(logits) - 1, axis=1, batch_dims=1)

    def score(self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return self.loss(logits, labels, policy)

    def __str__(self):
        return "exit_aware"


@dataclass(frozen=True)
class TargetedAt(Part):
    """Minimise the cross-entropy of one wrong class at one exit: leave there, and be wrong.

    Attributes:
        exit_number: k, 1-based.
        rank: which wrong class, 0 for the one most likely at exit k on the clean image. It selects
            the `classes` alone, so it takes no part in equality: all ranks share one compiled loop.
    """

    exit_number: int
    rank: int = field(compare=False)

    def depth(self, num_exits: int) -> int:
        return _checked_exit(self.exit_number, num_exits)

    def classes(self, logits: list[tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
        not_the_label = tf.one_hot(labels, logits[-1].shape[-1], on_value=-1e9, off_value=0.0)
        order = tf.argsort(logits[-1] + not_the_label, direction="DESCENDING")
        return tf.cast(order[:, self.rank], labels.dtype)

    def loss(self, logits: list[tf.Tensor], classes: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return -cross_entropy(logits[-1], classes)

    def __str__(self):
        return f"targeted_at({self.exit_number}, {self.rank})"


@dataclass(frozen=True)
class TargetedExit(Objective):
    """`TargetedAt` for every exit and every wrong class, or only the most likely wrong ones.

    Attributes:
        num_targets: how many wrong classes per exit, the most likely first; `None` for all of them,
            at most `MAX_TARGETS`.
    """

    num_targets: int | None = None
    MAX_TARGETS = 9

    def parts(self, num_exits: int, num_classes: int) -> list[Part]:
        count = min(self.num_targets or self.MAX_TARGETS, num_classes - 1)
        return [TargetedAt(number, rank) for number in range(1, num_exits + 1) for rank in range(count)]

    def __str__(self):
        return f"targeted_exit({self.num_targets})" if self.num_targets else "targeted_exit"


PLAIN = {str(each): each for each in (Single(), Average(), MaxAverage(), ExitAware(), TargetedExit())}
WITH_NUMBER = {"single": Single, "targeted_exit": TargetedExit}


def objective(name: str) -> Objective:
    """Returns the objective of this name, e.g. `"average"`, `"single(2)"`, `"targeted_exit(2)"`.

    Raises:
        InputError: if there is none of this name.
    """
    if name in PLAIN:
        return PLAIN[name]
    match = re.fullmatch(r"(\w+)\(([1-9]\d*)\)", name)
    if match and match[1] in WITH_NUMBER:
        return WITH_NUMBER[match[1]](int(match[2]))
    allowed = [*PLAIN, *(f"{name}(k)" for name in WITH_NUMBER)]
    raise InputError(f"Unknown attack objective {name!r}. Allowed: {', '.join(allowed)}")


def _checked_exit(number: int, num_exits: int) -> int:
    if number > num_exits:
        raise InputError(f"The attack names exit {number}, but the model has exits 1 to {num_exits}")
    return number
