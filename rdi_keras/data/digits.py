"""The handwritten digits that scikit-learn ships: real data without a download."""

import numpy as np

from rdi_keras.data.dataset import Dataset, Split, split_dataset

MAX_VALUE = 16  # The set counts set pixels in 4×4 blocks.


def load_digits() -> Dataset:
    """1,797 images of 8×8×1 pixels, 10 classes. Source: UCI optical recognition of digits."""
    from sklearn.datasets import load_digits as load

    digits = load()
    images = (digits.images[..., None] / MAX_VALUE).astype(np.float32)
    names = tuple(str(name) for name in digits.target_names)
    return split_dataset("digits", names, Split(images, digits.target.astype(np.int64)))
