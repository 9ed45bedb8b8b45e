"""When a sample leaves: the first exit whose entropy is below its threshold."""

from typing import Any

from keras import ops

Tensor = Any  # A tensor of Keras's backend, or an array that it takes.


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax of logits `[..., C]`, in nats; shape `[...]`, between 0 and ln C."""
    log_probabilities = ops.log_softmax(logits, axis=-1)
    return -ops.sum(ops.exp(log_probabilities) * log_probabilities, axis=-1)


class EntropyPolicy:
    """A sample leaves at the first exit k with entropy H_k < T_k; the last exit always answers.

    Source: Hu et al., ICLR 2020, section 3.2.

    Args:
        thresholds: T_1 … T_{N-1} in nats, shape `[N-1]` for all samples alike or `[B, N-1]`. A
            tensor or variable may stand here, so that a compiled function follows its changes.
    """

    def __init__(self, thresholds: Tensor):
        self.thresholds = thresholds

    def exit_of(self, logits: list[Tensor]) -> Tensor:
        """Where each sample leaves.

        Args:
            logits: the logits `[B, C]` of exits 1, 2, …. All N, or only the first few.

        Returns:
            1-based exit numbers, int32 `[B]`. A sample that leaves at none of the exits given gets
            the number of the next one: with all N given there is no next, so it gets N.
        """
        num_side_exits = min(len(logits), self.thresholds.shape[-1])
        if num_side_exits == 0:
            return ops.ones(ops.shape(logits[0])[:1], dtype="int32")
        entropies = ops.stack([entropy(each) for each in logits[:num_side_exits]], axis=-1)
        # Not `>=`: an entropy that is no number is no reason to leave.
        stays = ops.logical_not(entropies < self.thresholds[..., :num_side_exits])
        stays = ops.cast(stays, "int32")
        return 1 + ops.sum(ops.cumprod(stays, axis=-1), axis=-1)

    def answer(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The logits `[B, C]` each sample leaves with, and its exit, int32 `[B]`; needs all N."""
        exits = self.exit_of(logits)
        stacked = ops.stack(logits, axis=1)
        index = ops.reshape(exits - 1, (-1, 1, 1))
        return ops.squeeze(ops.take_along_axis(stacked, index, axis=1), axis=1), exits
