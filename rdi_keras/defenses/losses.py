"""What an exit is trained for: losses of its clean and its attacked answers, and terms between exits."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from rdi_keras.attacks import cross_entropy, divergence
from rdi_keras.errors import InputError

Logits = Sequence[tf.Tensor]
# Keeps logarithms of probabilities near 0 finite.
TINY = 1e-12


class RobustLoss(ABC):
    """The loss of one exit."""

    @property
    def needs_attack(self) -> bool:
        """Whether attacked images are needed at all."""
        return True

    @abstractmethod
    def __call__(self, clean: tf.Tensor, attacked: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Per sample, `[B]`, from an exit's logits `[B, C]` of clean and attacked images."""


@dataclass(frozen=True)
class Mix(RobustLoss):
    """(1 − λ) · cross-entropy, clean, + λ · cross-entropy, attacked. Source: Hu et al. 2020, section 3.3.

    Attributes:
        adversarial_weight: λ, 0 to 1; with 0 no attack is run.
        label_smoothing: the share of a label's weight that goes to all classes alike.
    """

    adversarial_weight: float = 0.5
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_fraction("The adversarial weight", self.adversarial_weight)
        _check_fraction("Label smoothing", self.label_smoothing)

    @property
    def needs_attack(self) -> bool:
        return self.adversarial_weight > 0

    def __call__(self, clean: tf.Tensor, attacked: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        views = zip((1 - self.adversarial_weight, self.adversarial_weight), (clean, attacked), strict=True)
        # At λ = 1 the clean view is for the metrics alone, at 0 there is no other.
        return tf.add_n(
            [weight * smoothed(each, labels, self.label_smoothing) for weight, each in views if weight]
        )


@dataclass(frozen=True)
class SplitMix(Mix):
    """An estimate of `Mix` from one view of a batch: λ of its samples are attacked, the others stay clean.

    One pass forward and back takes the place of two, and attacks run on λ of the samples: the first ones, so
    that batches must be shuffled. BatchNorm sees both kinds together. After Kurakin et al., ICLR 2017
    (arXiv:1611.01236), section 3.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.adversarial_weight < 1:
            raise InputError(
                "SplitMix needs an adversarial weight above 0 and below 1, so that there are both kinds. "
                f"Received: {self.adversarial_weight}. Change it, or choose Mix"
            )


@dataclass(frozen=True)
class Trades(RobustLoss):
    """Cross-entropy, clean, + β · KL(clean ‖ attacked). Source: Zhang et al., ICML 2019 (arXiv:1901.08573).

    Attributes:
        beta: β, what the paper calls 1/λ.
        label_smoothing: as for `Mix`.
    """

    beta: float = 6.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_at_least_0("beta", self.beta)
        _check_fraction("Label smoothing", self.label_smoothing)

    def __call__(self, clean: tf.Tensor, attacked: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return smoothed(clean, labels, self.label_smoothing) + self.beta * divergence(clean, attacked)


@dataclass(frozen=True)
class Mart(RobustLoss):
    """Boosted cross-entropy, attacked, + β · KL(clean ‖ attacked) · (1 − p_y clean).

    What is not answered rightly, even clean, counts more. Source: Wang et al. (MART), ICLR 2020.

    Attributes:
        beta: β; 5 or 6 in the paper.
    """

    beta: float = 6.0

    def __post_init__(self) -> None:
        _check_at_least_0("beta", self.beta)

    def __call__(self, clean: tf.Tensor, attacked: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        num_classes = clean.shape[-1]
        is_label = tf.one_hot(labels, num_classes, on_value=True, off_value=False)
        rival = tf.argmax(tf.where(is_label, attacked.dtype.min, attacked), axis=-1)
        is_rival = tf.one_hot(rival, num_classes, on_value=True, off_value=False)
        # ln(1 − p of the rival), from logits: where the rival is sure, 1 − p is lost in rounding.
        others = tf.reduce_logsumexp(tf.where(is_rival, attacked.dtype.min, attacked), axis=-1)
        boosted = cross_entropy(attacked, labels) + tf.reduce_logsumexp(attacked, axis=-1) - others
        trust = tf.reduce_sum(tf.where(is_label, tf.nn.softmax(clean), 0.0), axis=-1)
        return boosted + self.beta * divergence(clean, attacked) * (1 - trust)


@dataclass(frozen=True)
class ExitTerm(ABC):
    """Self-distillation: what every exit learns, under attack, from clean answers of its network.

    Attributes:
        weight: of the term.
    """

    weight: float = 1.0

    @abstractmethod
    def teachers(self, clean: Logits, labels: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
        """For every exit the probabilities `[B, C]` that it learns; they are taken as constants.

        Args:
            clean: logits of every exit, N times `[B, C]`.
            labels: integers `[B]`.
            seed: integers `[2]`, of what is drawn.
        """

    def __call__(
        self, clean: Logits, attacked: Logits, labels: tf.Tensor, seed: tf.Tensor
    ) -> list[tf.Tensor]:
        """For every exit a loss per sample, `[B]`; `attacked` are logits as `clean`."""
        pairs = zip(self.teachers(clean, labels, seed), attacked, strict=True)
        return [self.weight * _distilled(teacher, student) for teacher, student in pairs]


class NeighbourDistillation(ExitTerm):
    """Every exit under attack learns the mean clean answer of itself and the exits next to it.

    Source: Ham et al. (NEO-KD), NeurIPS 2023 (arXiv:2311.00428), section 3.2.
    """

    def teachers(self, clean: Logits, labels: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
        answers = [tf.nn.softmax(each) for each in clean]
        groups = [answers[max(number - 1, 0) : number + 2] for number in range(len(answers))]
        return [tf.add_n(near) / len(near) for near in groups]


class OrthogonalDistillation(ExitTerm):
    """Every exit under attack learns its own clean answer, each only the label and wrong classes of its own.

    At every step the wrong classes are dealt out to the exits anew, so that no two exits learn to be
    mistaken in the same way, and an attack on one fools the others less. After NEO-KD, section 3.2; the
    weights of both terms, and of exits, are this project's.
    """

    def teachers(self, clean: Logits, labels: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
        num_classes = clean[0].shape[-1]
        order = tf.random.experimental.stateless_shuffle(tf.range(num_classes), seed)
        is_label = tf.one_hot(labels, num_classes)
        # Places 0 … C−2 among the wrong classes of each sample, `[B, C]`.
        place = order - tf.cast(order > tf.gather(order, labels)[:, None], tf.int32)
        found = []
        for number, each in enumerate(clean):
            own = tf.cast(place % len(clean) == number, tf.float32)
            kept = tf.nn.softmax(each) * tf.maximum(own, is_label)
            found.append(kept / (tf.reduce_sum(kept, axis=-1, keepdims=True) + TINY))
        return found


def smoothed(logits: tf.Tensor, labels: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Cross-entropy `[B]` with labels of which a share is spread over all classes."""
    if not smoothing:
        return cross_entropy(logits, labels)
    spread = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
    return (1 - smoothing) * cross_entropy(logits, labels) + smoothing * spread


def _distilled(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """Cross-entropy `[B]` of a student's logits with the teacher's probabilities, a constant."""
    return tf.nn.softmax_cross_entropy_with_logits(tf.stop_gradient(teacher), student)


def _check_fraction(what: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{what} must lie between 0 and 1. Received: {value}")


def _check_at_least_0(what: str, value: float) -> None:
    if not value >= 0:
        raise InputError(f"{what} must be at least 0. Received: {value}")


# By the names that a saved model's configuration holds.
LOSSES = {each.__name__: each for each in (Mix, SplitMix, Trades, Mart)}
TERMS = {each.__name__: each for each in (NeighbourDistillation, OrthogonalDistillation)}
