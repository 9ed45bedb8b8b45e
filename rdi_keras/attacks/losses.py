"""Losses of one exit that attacks maximise, each per sample `[B]`, from logits `[B, C]`.

Logits, not probabilities: where a network is sure, softmax outputs would mask the gradient.
"""

import tensorflow as tf


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy, in nats."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def margin(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """How far the best other class is above the label, in logits; above 0 the answer is wrong.

    Source: Carlini & Wagner, S&P 2017 (arXiv:1608.04644), section V.
    """
    label, others = _label_and_others(logits, labels)
    return tf.reduce_max(others, axis=-1) - label


def dlr(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The difference of logits ratio: the margin, measured by how far the first class is above the third.

    It does not change when logits are scaled. With fewer than three classes the last takes the third's
    place. Source: Croce & Hein, ICML 2020 (arXiv:2003.01690), section 4.
    """
    ordered = tf.sort(logits, axis=-1, direction="DESCENDING")
    spread = ordered[:, 0] - ordered[:, min(2, logits.shape[-1] - 1)]
    return margin(logits, labels) / (spread + 1e-12)


def divergence(clean: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The KL divergence of the answer in logits from the one in clean logits, both `[..., C]`, in nats."""
    log_clean, log_changed = tf.nn.log_softmax(clean), tf.nn.log_softmax(logits)
    return tf.reduce_sum(tf.exp(log_clean) * (log_clean - log_changed), axis=-1)


def target_margin(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """How far the target class is above the best other class, in logits; above 0 it is the answer."""
    return -margin(logits, targets)


def _label_and_others(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    is_label = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    label = tf.reduce_sum(tf.where(is_label, logits, 0.0), axis=-1)
    return label, tf.where(is_label, logits.dtype.min, logits)


LOSSES = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
