"""Random numbers for attacks: from a seed alone, one stream a batch or one a sample."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

# Takes the shape per sample and a number that tells apart what one run draws; gives uniform numbers
# in [0, 1), float32 `[B, *shape]`.
Draw = Callable[[Sequence[int], int], tf.Tensor]

fold_in = tf.random.experimental.stateless_fold_in


def batch_draw(seed: tf.Tensor, size: tf.Tensor) -> Draw:
    """One stream for the whole batch; the quicker way, for training.

    Args:
        seed: integers `[2]`.
        size: B.
    """

    def draw(shape: Sequence[int], purpose: int) -> tf.Tensor:
        return tf.random.stateless_uniform([size, *shape], fold_in(seed, purpose))

    return draw


def sample_draw(seeds: tf.Tensor) -> Draw:
    """One stream a sample, so that its numbers do not depend on who else is in the batch.

    Args:
        seeds: integers `[B, 2]`.
    """

    def draw(shape: Sequence[int], purpose: int) -> tf.Tensor:
        return tf.map_fn(
            lambda seed: tf.random.stateless_uniform(shape, fold_in(seed, purpose)),
            seeds,
            fn_output_signature=tf.TensorSpec(shape, tf.float32),
        )

    return draw


def sample_seeds(samples: np.ndarray, *path: int) -> np.ndarray:
    """Seeds int64 `[B, 2]` of samples with these numbers, in the run that the path leads to."""
    run = np.random.SeedSequence(path).generate_state(1, np.uint64)[0] >> np.uint64(1)
    return np.stack([np.full(len(samples), run, np.int64), np.asarray(samples, np.int64)], axis=1)
