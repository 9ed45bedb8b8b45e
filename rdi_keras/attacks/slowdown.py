"""Slowdown: make samples leave late. It costs compute, not accuracy."""

from dataclasses import dataclass

import tensorflow as tf

from rdi_keras.attacks.losses import cross_entropy
from rdi_keras.attacks.objectives import Part, fooled
from rdi_keras.inference.policy import EntropyPolicy


@dataclass(frozen=True)
class Slowdown(Part):
    """Push every side exit's softmax to uniform, so that nobody is sure enough to leave.

    Source: Hong et al. (DeepSloth), ICLR 2021 (arXiv:2010.02432), section 4.

    Attributes:
        keep_label: whether the last exit must go on answering the label, so that nobody notices.
    """

    keep_label: bool = False

    def parts(self, num_exits: int, num_classes: int) -> list[Part]:
        return [self] if num_exits > 1 else []  # Without side exits there is nothing to slow down.

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        # The cross-entropy of the uniform distribution and the softmax, but for a constant.
        per_exit = [tf.reduce_mean(tf.nn.log_softmax(each), axis=-1) for each in logits[:-1]]
        late = tf.add_n(per_exit) / len(per_exit)
        return late - cross_entropy(logits[-1], aim) if self.keep_label else late

    def reached(
        self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None, num_exits: int
    ) -> tf.Tensor:
        """It leaves at the last exit, and is right where the label is to be kept."""
        if policy is None or len(logits) < num_exits:
            return tf.zeros(tf.shape(labels), tf.bool)
        last = policy.exit_of(logits) == num_exits
        return last & ~fooled(logits, labels, policy) if self.keep_label else last

    def score(self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        """A later exit beats every loss; with the label to be kept, a right answer beats every exit."""
        score = tf.sigmoid(self.loss(logits, labels, policy)) if len(logits) > 1 else 0.0
        if policy is None:
            return score + tf.zeros(tf.shape(labels))
        score += tf.cast(policy.exit_of(logits), tf.float32)
        if self.keep_label:
            score -= len(logits) * tf.cast(fooled(logits, labels, policy), tf.float32)
        return score

    def __str__(self):
        return "slowdown_keeping_label" if self.keep_label else "slowdown"
