"""From a split to shuffled, augmented batches."""

import numpy as np
import tensorflow as tf

from rdi_keras.data.dataset import Split
from rdi_keras.errors import InputError


class TrainingBatches:
    """Shuffled full batches `(images, labels)`, epoch by epoch.

    An epoch depends on the seed and its number alone, so that it can be entered at any batch.

    Args:
        split: the training data.
        batch_size: samples per batch; a last, smaller batch is left out if there is a full one.
        seed: of order and augmentation.
        pad_crop: zero pixels to pad on each side before a random crop to the old size.
        flip: whether to mirror at random, left to right.
        replays: how often each batch comes in a row.

    Attributes:
        steps: batches of an epoch, replays included.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        pad_crop: int = 0,
        flip: bool = False,
        replays: int = 1,
    ):
        with tf.device("CPU"):
            self._images, self._labels = tf.constant(split.images), tf.constant(split.labels)
        self._batch_size, self._seed, self._replays = batch_size, seed, replays
        self._pad_crop, self._flip = pad_crop, flip
        self._batches = max(len(split) // batch_size, 1)
        self.steps = self._batches * replays

    def check_divisible(self, num_replicas: int) -> None:
        """Raises `InputError` if so many devices cannot share a batch equally."""
        size = min(self._batch_size, len(self._labels))
        if size % num_replicas:
            raise InputError(
                f"A batch of {size} images cannot be shared equally by {num_replicas} devices. Name a batch "
                "size that can (--training.batch_size)"
            )

    def epoch(
        self, number: int, first: int = 0, share: tuple[int, int] = (0, 1), pieces: int = 1
    ) -> tf.data.Dataset:
        """The batches of an epoch.

        Args:
            number: of the epoch, from 0.
            first: index of the batch to begin with.
            share: `(k, n)`: of every batch only the k-th of n equal parts, for n processes.
            pieces: in how many equal pieces, one after the other, such a part comes, for as many devices.
        """
        order = np.random.default_rng([self._seed, number]).permutation(len(self._labels))
        begun, replayed = divmod(first, self._replays)
        size = min(self._batch_size, len(order))
        part = size // share[1]
        order = order[: self._batches * size].reshape(self._batches, size)
        order = order[begun:, share[0] * part : (share[0] + 1) * part].ravel()
        batch_size = part // pieces
        batches = tf.data.Dataset.from_tensor_slices(order)
        if self._pad_crop or self._flip:
            state = np.random.SeedSequence([self._seed, number]).generate_state(1)[0]
            batches = batches.map(
                lambda index: self._augmented(index, tf.stack([tf.constant(state, tf.int64), index])),
                num_parallel_calls=tf.data.AUTOTUNE,
            ).batch(batch_size)
        else:
            batches = batches.batch(batch_size).map(self._at)
        if self._replays > 1:
            # All pieces of a batch, then all of them again.
            batches = (
                batches.batch(pieces)
                .flat_map(lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(self._replays))
                .unbatch()
                .skip(replayed * pieces)
            )
        return batches.prefetch(tf.data.AUTOTUNE)

    def _at(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.gather(self._images, index), tf.gather(self._labels, index)

    def _augmented(self, index: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = self._at(index)
        shape = self._images.shape[1:]
        if self._pad_crop:
            pad = [[self._pad_crop, self._pad_crop]] * 2 + [[0, 0]]
            image = tf.image.stateless_random_crop(tf.pad(image, pad), shape, noise)
        if self._flip:
            image = tf.image.stateless_random_flip_left_right(image, noise + 1)
        return image, label
