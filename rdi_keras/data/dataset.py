"""A data set in memory, and how it is split."""

import re
from dataclasses import dataclass, replace

import numpy as np

from rdi_keras.errors import InputError

CALIBRATION_SHARE = 0.1
MAX_CALIBRATION = 5000
TEST_SHARE = 0.2
SPLIT_SEED = 0
# Data sets are held in memory: no position in one is larger.
MAX_POSITION = 10_000_000


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        images: float32 `[n, H, W, C]` in [0, 1].
        labels: int64 `[n]`.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray | slice) -> "Split":
        """The samples at these positions (an index array or a slice)."""
        return Split(self.images[index], self.labels[index])

    def first(self, limit: int | None) -> "Split":
        """The first samples, or all of them where no limit is given."""
        return self if limit is None else self.take(slice(limit))


@dataclass(frozen=True)
class Dataset:
    """A data set with its class names and three parts that share no sample.

    Attributes:
        name: what `rdi.data.load` was asked for.
        class_names: one per class; their order is that of the logits.
        train: for fitting weights.
        calibration: held out of the training data, for thresholds and every choice between recipes.
        test: for the report alone.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    calibration: Split
    test: Split

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.train.images.shape[1:]

    def with_train_limit(self, limit: int | None) -> "Dataset":
        """The same data set with only the first `limit` training samples."""
        return replace(self, train=self.train.first(limit))


def parse_positions(text: str) -> np.ndarray:
    """Turns ranges of positions such as `"0:4000,10000:11017"` into an index array.

    Raises:
        InputError: if the text is something else.
    """
    found = [re.fullmatch(r"\s*(\d+):(\d+)\s*", each) for each in text.split(",")]
    ranges = [(int(each[1]), int(each[2])) for each in found if each]
    if len(ranges) < len(found) or not all(first < end <= MAX_POSITION for first, end in ranges):
        raise InputError(
            "Positions are ranges first:end, separated by commas, such as 0:4000,10000:11017, and at most "
            f"{MAX_POSITION:,}. "
            f"Received: {text!r}"
        )
    return np.concatenate([np.arange(first, end) for first, end in ranges])


def split_dataset(
    name: str,
    class_names: tuple[str, ...],
    train: Split,
    test: Split | None = None,
    calibration_pool: np.ndarray | None = None,
) -> Dataset:
    """Holds calibration data out of the training data, and test data too where there is none.

    Calibration data are a tenth of the training data, at most 5,000, drawn with seed 0. Test data,
    where the set has no part of its own, are a fifth, drawn likewise.

    Args:
        name: of the set.
        class_names: one per class.
        train: to be split.
        test: the set's own test part, if it has one.
        calibration_pool: positions in `train` that calibration data are drawn from; default: all. For
            sets of which only some images are fit to measure on.

    Raises:
        InputError: if a part would be empty.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(len(train))
    if test is None:
        cut = round(len(train) * TEST_SHARE)
        test, order = train.take(order[:cut]), order[cut:]
    cut = min(round(len(order) * CALIBRATION_SHARE), MAX_CALIBRATION)
    if calibration_pool is not None:
        # Those in the pool first; a stable sort leaves both kinds in the order drawn.
        inside = np.isin(order, calibration_pool)
        order, cut = order[np.argsort(~inside, kind="stable")], min(cut, int(inside.sum()))
    if min(cut, len(test)) < 1:
        raise InputError(
            f"Data set {name!r} is too small to be split into training, calibration and test data. "
            f"Received: {len(train)} training images. Allowed: at least 10, and at least 1 in the "
            "calibration pool"
        )
    return Dataset(name, class_names, train.take(order[cut:]), train.take(order[:cut]), test)
