"""From a split to shuffled, augmented batches."""

import tensorflow as tf

from rdi_keras.data.dataset import Split


def training_batches(
    split: Split, batch_size: int, seed: int, pad_crop: int = 0, flip: bool = False
) -> tf.data.Dataset:
    """Shuffled full batches `(images, labels)`; every epoch has an order of its own.

    Args:
        split: the training data.
        batch_size: samples per batch; a last, smaller batch is left out if there is a full one.
        seed: of order and augmentation.
        pad_crop: zero pixels to pad on each side before a random crop to the old size.
        flip: whether to mirror at random, left to right.
    """
    height, width, channels = split.images.shape[1:]

    def augment(image: tf.Tensor, label: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if pad_crop:
            pad = [[pad_crop, pad_crop], [pad_crop, pad_crop], [0, 0]]
            image = tf.image.stateless_random_crop(tf.pad(image, pad), [height, width, channels], noise)
        if flip:
            image = tf.image.stateless_random_flip_left_right(image, noise + 1)
        return image, label

    batches = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
    batches = batches.shuffle(len(split), seed=seed, reshuffle_each_iteration=True)
    if pad_crop or flip:
        noise = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
        batches = tf.data.Dataset.zip((batches, noise)).map(
            lambda sample, noise: augment(*sample, noise), num_parallel_calls=tf.data.AUTOTUNE
        )
    batches = batches.batch(batch_size, drop_remainder=len(split) >= batch_size)
    return batches.prefetch(tf.data.AUTOTUNE)
