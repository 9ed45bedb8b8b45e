"""What an attack maximises, apart from how it is climbed: the paper's objectives and their kin."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import tensorflow as tf

from rdi_keras.attacks.losses import cross_entropy, divergence
from rdi_keras.attacks.randomness import Draw
from rdi_keras.errors import InputError
from rdi_keras.inference.policy import EntropyPolicy

# What an aim draws for; solvers use small numbers.
EXITS = 100


def mean_cross_entropy(logits: list[tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
    """The mean over the exits of each sample's cross-entropy, `[B]`."""
    return tf.add_n([cross_entropy(each, labels) for each in logits]) / len(logits)


def fooled(logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
    """Whether the adaptive answer is wrong, bool `[B]`, as far as the exits given tell.

    A sample that has not left at one of these exits is not counted as fooled, and no sample is
    without a policy.
    """
    if policy is None:
        return tf.zeros(tf.shape(labels), tf.bool)
    left_at = policy.exit_of(logits)
    stacked = tf.stack(logits, axis=1)
    index = tf.minimum(left_at, len(logits)) - 1
    answer = tf.argmax(tf.gather(stacked, index, axis=1, batch_dims=1), axis=-1)
    wrong = answer != tf.cast(labels, answer.dtype)
    return tf.logical_and(wrong, left_at <= len(logits))


@dataclass(frozen=True)
class Objective(ABC):
    """One or several losses that are maximised in turn, when that has done, and how results are ranked."""

    @property
    def needs_policy(self) -> bool:
        """Whether the loss is made of where samples leave."""
        return False

    # Whether the clean image may be the result, where nothing scores higher.
    clean_is_candidate = True

    @abstractmethod
    def parts(self, num_exits: int, num_classes: int) -> list["Part"]:
        """The single losses to maximise one after the other; per sample the best result is kept."""

    def reached(
        self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None, num_exits: int
    ) -> tf.Tensor:
        """Whether the attack has what it wants, bool `[B]`, as far as the exits given tell.

        Such a result beats all others, and no further part or restart is run on the sample.
        """
        return fooled(logits, labels, policy)

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

    def aim(self, logits: list[tf.Tensor], labels: tf.Tensor, draw: Draw) -> tf.Tensor:
        """What the loss refers to, chosen once on the clean image: one row per sample.

        The label, here; a class to be taken for, an exit, or the clean image's logits, elsewhere.
        """
        return labels

    @abstractmethod
    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        """The value to maximise per sample, `[B]`, from the logits of exits 1 … depth."""


@dataclass(frozen=True)
class Single(Part):
    """Maximise L_k of one exit; only the stages up to it run. Source: Hu et al. 2020, section 3.3.

    Attributes:
        exit_number: k, 1-based; `None` for the last exit, the paper's main-branch attack.
    """

    exit_number: int | None = None

    def depth(self, num_exits: int) -> int:
        return checked_exit(self.exit_number or num_exits, num_exits)

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return cross_entropy(logits[-1], aim)

    def score(self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return cross_entropy(logits[(self.exit_number or len(logits)) - 1], labels)

    def __str__(self) -> str:
        return f"single({self.exit_number})" if self.exit_number else "main"


@dataclass(frozen=True)
class Average(Part):
    """Maximise the mean of all exits' losses. Source: Hu et al. 2020, section 3.3."""

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return mean_cross_entropy(logits, aim)

    def __str__(self) -> str:
        return "average"


@dataclass(frozen=True)
class MaxAverage(Objective):
    """Attack every exit alone; keep the result with the largest mean loss. Source: as `Average`."""

    def parts(self, num_exits: int, num_classes: int) -> list[Part]:
        return [Single(number) for number in range(1, num_exits + 1)]

    def __str__(self) -> str:
        return "max_average"


@dataclass(frozen=True)
class Ensemble(Part):
    """Maximise the cross-entropy of the mean of all exits' probabilities, as of an ensemble of networks."""

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        log_probabilities = tf.stack([tf.nn.log_softmax(each) for each in logits], axis=0)
        # The logarithm of a mean, without leaving logarithms, where tiny probabilities survive.
        log_mean = tf.reduce_logsumexp(log_probabilities, axis=0)
        return cross_entropy(log_mean, aim)

    def __str__(self) -> str:
        return "ensemble"


@dataclass(frozen=True)
class RandomExit(Part):
    """Maximise the loss of one exit, drawn at random for every sample: `max_average` at the cost of one."""

    def aim(self, logits: list[tf.Tensor], labels: tf.Tensor, draw: Draw) -> tf.Tensor:
        exits = tf.cast(draw([], EXITS) * len(logits), labels.dtype)
        return tf.stack([labels, exits], axis=1)

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        losses = tf.stack([cross_entropy(each, aim[:, 0]) for each in logits], axis=1)
        return tf.gather(losses, aim[:, 1], axis=1, batch_dims=1)

    def __str__(self) -> str:
        return "random_exit"


@dataclass(frozen=True)
class Targeted(Part):
    """Minimise the cross-entropy of one wrong class at all exits alike.

    Attributes:
        target: the class; `None` for the one most likely at the last exit of the clean image, label
            excepted. A sample of that class itself is led away from it.
    """

    target: int | None = None

    def aim(self, logits: list[tf.Tensor], labels: tf.Tensor, draw: Draw) -> tf.Tensor:
        likely = wrong_class(logits[-1], labels, rank=0)
        if self.target is None:
            return likely
        if self.target >= logits[-1].shape[-1]:
            raise InputError(
                f"The attack names class {self.target}, but the model has classes 0 to "
                f"{logits[-1].shape[-1] - 1}"
            )
        return tf.where(labels == self.target, likely, tf.cast(self.target, labels.dtype))

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return -mean_cross_entropy(logits, aim)

    def __str__(self) -> str:
        return "targeted" if self.target is None else f"targeted({self.target})"


@dataclass(frozen=True)
class Divergence(Part):
    """Maximise how far every exit's answer moves from its answer to the clean image: mean KL divergence.

    For training; of several restarts the one with the largest cross-entropy is kept. Source: Zhang et al.
    (TRADES), ICML 2019 (arXiv:1901.08573), equation 5.
    """

    clean_is_candidate = False

    def aim(self, logits: list[tf.Tensor], labels: tf.Tensor, draw: Draw) -> tf.Tensor:
        return tf.stack(logits, axis=1)

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return tf.reduce_mean(divergence(aim, tf.stack(logits, axis=1)), axis=1)

    def __str__(self) -> str:
        return "divergence"


def wrong_class(logits: tf.Tensor, labels: tf.Tensor, rank: int) -> tf.Tensor:
    """The wrong class `[B]` of this rank in logits `[B, C]`: 0 for the most likely one."""
    is_label = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    order = tf.argsort(tf.where(is_label, logits.dtype.min, logits), direction="DESCENDING")
    return tf.cast(order[:, rank], labels.dtype)


def known(policy: EntropyPolicy | None) -> EntropyPolicy:
    """The policy, which an objective needs.

    Raises:
        InputError: if there is none.
    """
    if policy is None:
        raise InputError(
            "The attack's objective needs the thresholds, which say where a sample leaves. Received: none"
        )
    return policy


def checked_exit(number: int, num_exits: int) -> int:
    """The number, if the model has such an exit.

    Raises:
        InputError: if it has not.
    """
    if number > num_exits:
        raise InputError(f"The attack names exit {number}, but the model has exits 1 to {num_exits}")
    return number
