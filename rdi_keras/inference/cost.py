"""Multiply-accumulates (MACs), counted from the built layers of a multi-exit model."""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from rdi_keras.errors import InputError
from rdi_keras.models import MultiExitModel

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
CONVOLUTION_ONLY = CONVOLUTIONS + DEPTHWISE
"""The layer types that the paper's tables charge."""
ALL_COUNTED = (*CONVOLUTION_ONLY, layers.Dense)
"""All layer types that `cost_table` can charge."""


@dataclass(frozen=True)
class CostTable:
    """MACs per sample of a multi-exit model's parts.

    Attributes:
        segments: N numbers, the trunk from exit k-1 to exit k.
        heads: N numbers, the head of exit k.
    """

    segments: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def cumulative(self) -> list[int]:
        """All that runs until a sample has left at exit k: trunk, and every head on the way."""
        return [sum(self.segments[:k]) + sum(self.heads[:k]) for k in self._numbers]

    @property
    def own_branch_only(self) -> list[int]:
        """Trunk plus head k alone, the paper's way: heads passed on the way are not charged."""
        return [sum(self.segments[:k]) + self.heads[k - 1] for k in self._numbers]

    @property
    def backbone(self) -> int:
        """The backbone without side exits: the whole trunk and the last head."""
        return sum(self.segments) + self.heads[-1]

    @property
    def _numbers(self) -> range:
        return range(1, len(self.heads) + 1)


def cost_table(model: MultiExitModel, counted: tuple[type[keras.Layer], ...] = ALL_COUNTED) -> CostTable:
    """Counts a model's multiply-accumulates per sample.

    Args:
        model: a built multi-exit model with fixed image size.
        counted: the layer types to charge. `CONVOLUTION_ONLY` is what the paper's tables count.

    Raises:
        InputError: if a layer holds a weight matrix and its type has no rule here, better no figure
            than one that leaves something out; or if the image size is not fixed.
    """
    if None in model.input_shape[1:]:
        raise InputError(
            "The multiply-accumulates depend on the image size, which must be fixed. Received: "
            f"{model.input_shape[1:]}"
        )
    return CostTable(
        segments=tuple(_macs(segment, counted) for segment in model.segments),
        heads=tuple(_macs(head, counted) for head in model.heads),
    )


def _macs(model: keras.Model, counted: tuple[type[keras.Layer], ...]) -> int:
    # The nodes of the graph rather than `model.layers`: a layer that is called twice costs twice.
    nodes = [node for depth in model._nodes_by_depth.values() for node in depth]
    return sum(_node_macs(node, counted) for node in nodes if not node.is_input)


def _node_macs(node: Any, counted: tuple[type[keras.Layer], ...]) -> int:
    layer, output_shape = node.operation, node.outputs[0].shape
    graph = getattr(layer, "_functional", layer)  # What a Sequential wraps.
    if hasattr(graph, "_nodes_by_depth"):
        return _macs(graph, counted)
    if not isinstance(layer, ALL_COUNTED):
        if any(len(weight.shape) > 1 for weight in getattr(layer, "weights", [])):
            raise InputError(
                f"No rule to count the multiply-accumulates of layer {layer.name!r} of type "
                f"{type(layer).__name__}. Allowed with weights: "
                f"{', '.join(kind.__name__ for kind in ALL_COUNTED)}"
            )
        return 0
    if not isinstance(layer, counted):
        return 0
    kernel = layer.kernel.shape
    if isinstance(layer, layers.Dense):
        return math.prod(kernel) * math.prod(output_shape[1:-1])
    positions = math.prod(output_shape[2:] if layer.data_format == "channels_first" else output_shape[1:-1])
    # A depthwise kernel is [*size, in, multiplier], an ordinary one [*size, in/groups, out]: in both
    # every entry is used once per output position.
    return math.prod(kernel) * positions
