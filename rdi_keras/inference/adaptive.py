"""Adaptive execution inside the TensorFlow graph: a sample that has left costs nothing further."""

from functools import partial
from typing import NamedTuple

import keras
import tensorflow as tf

from rdi_keras.inference.cost import cost_table
from rdi_keras.inference.policy import entropy
from rdi_keras.models import MultiExitModel


def adaptive(model: MultiExitModel, images: tf.Tensor, thresholds: tf.Tensor) -> dict[str, tf.Tensor]:
    """Predicts segment by segment; only samples that have not left go on to the next one.

    Samples that left are compacted away (gathered out) before the next segment runs, and a segment
    that nobody reaches is skipped. The answers are those of computing every exit for everyone.

    Args:
        model: the multi-exit model; runs in inference mode.
        images: float32 `[B, H, W, C]` in [0, 1].
        thresholds: entropies in nats, float32 `[B, N-1]`, per sample.

    Returns:
        `probabilities` float32 `[B, C]`, `label` int64 `[B]`, `exit` int32 `[B]` (1-based),
        `entropy` float32 `[B]` (nats, of the exit that answered), `macs` float32 `[B]` (everything
        that ran for the sample, passed heads included).
    """
    batch = tf.shape(images)[0]
    state = _State(
        inside=tf.range(batch),
        features=images,
        answers=tf.zeros([batch, model.num_classes]),
        exits=tf.zeros([batch], tf.int32),
    )
    parts = zip(model.segments, model.heads, strict=True)
    for number, (segment, head) in enumerate(parts, start=1):
        limits = None if number == model.num_exits else thresholds[:, number - 1]
        state = tf.cond(
            tf.size(state.inside) > 0,
            partial(_run, state, segment, head, number, limits),
            partial(_skip, state, segment),
        )
    answers, exits = state.answers, state.exits

    macs = tf.constant(cost_table(model).cumulative, tf.float32)
    return {
        "probabilities": tf.nn.softmax(answers),
        "label": tf.argmax(answers, axis=-1, output_type=tf.int64),
        "exit": exits,
        "entropy": entropy(answers),
        "macs": tf.gather(macs, exits - 1),
    }


class _State(NamedTuple):
    inside: tf.Tensor  # rows of the batch that have not left, int32 [b]
    features: tf.Tensor  # their features, [b, ...]
    answers: tf.Tensor  # logits of those that left, [B, C]
    exits: tf.Tensor  # where they left, int32 [B]


def _run(
    state: _State, segment: keras.Model, head: keras.Model, number: int, limits: tf.Tensor | None
) -> _State:
    features = segment(state.features, training=False)
    logits = tf.cast(head(features, training=False), tf.float32)
    if limits is None:
        leaves = tf.ones_like(state.inside, dtype=tf.bool)
    else:
        leaves = entropy(logits) < tf.gather(limits, state.inside)
    stays = tf.logical_not(leaves)
    rows = tf.boolean_mask(state.inside, leaves)[:, None]
    left = tf.boolean_mask(logits, leaves)
    return _State(
        inside=tf.boolean_mask(state.inside, stays),
        features=tf.boolean_mask(features, stays),
        answers=tf.tensor_scatter_nd_update(state.answers, rows, left),
        exits=tf.tensor_scatter_nd_update(state.exits, rows, tf.fill(tf.shape(rows)[:1], number)),
    )


def _skip(state: _State, segment: keras.Model) -> _State:
    nobody = tf.zeros([0, *segment.output_shape[1:]], segment.compute_dtype)
    return state._replace(features=nobody)
