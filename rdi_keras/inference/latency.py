"""What leaving at each exit takes in time: a table of measured milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds on one machine, beside which MACs are the explanation.

    Attributes:
        engine: what executed the model.
        num_threads: how many threads it had.
        batch_sizes: S rising sizes that were measured.
        ms_to_exit: N lists of S numbers: a whole batch that leaves at exit k, all that it passes included.
        ms_plain: S numbers: the backbone without side exits, by the same engine.
    """

    engine: str
    num_threads: int
    batch_sizes: list[int]
    ms_to_exit: list[list[float]]
    ms_plain: list[float]

    def per_sample(self, batch_size: int) -> np.ndarray:
        """Milliseconds per sample to leave at each exit, `[N]`, in batches of a size that was measured."""
        return np.asarray(self.ms_to_exit)[:, self.batch_sizes.index(batch_size)] / batch_size

    def plain_per_sample(self, batch_size: int) -> float:
        """Milliseconds per sample of the backbone without side exits."""
        return self.ms_plain[self.batch_sizes.index(batch_size)] / batch_size

    def of_batch(self, exit_counts: np.ndarray) -> float:
        """Milliseconds of one batch, as the sum of its stages, each at the number of samples that reach it.

        Args:
            exit_counts: `[N]`, how many samples of the batch leave at each exit; may be means over batches.

        Between measured sizes, and from 0 to the smallest, a stage's time is interpolated.
        """
        reaching = np.cumsum(exit_counts[::-1])[::-1]
        total, before = 0.0, np.zeros(len(self.batch_sizes))
        for count, to_exit in zip(reaching, np.asarray(self.ms_to_exit), strict=True):
            if count > 0:
                total += float(np.interp(count, [0, *self.batch_sizes], [0, *(to_exit - before)]))
            before = to_exit
        return total

    def with_exits(self, numbers: Sequence[int]) -> "LatencyTable":
        """An estimate for the same network with some of its exits: every exit passed costs the same.

        What an exit costs is taken from the last exit's time beyond the plain backbone's. Measure anew before
        stating a figure.

        Args:
            numbers: 1-based, rising, the last exit included.
        """
        to_exit = np.asarray(self.ms_to_exit)
        passed = max(len(to_exit) - 1, 1)
        each = np.maximum(to_exit[-1] - np.asarray(self.ms_plain), 0) / passed
        rows = [
            to_exit[number - 1] - (number - place) * each for place, number in enumerate(numbers, start=1)
        ]
        return LatencyTable(
            self.engine, self.num_threads, self.batch_sizes, [row.tolist() for row in rows], self.ms_plain
        )
