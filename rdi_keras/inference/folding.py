"""BatchNorm folded into the layer before it: the same numbers from fewer operations."""

import collections
from typing import Any

import keras
import numpy as np
from keras import layers

from rdi_keras.models import MultiExitModel

FOLDABLE = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)


def fold_batch_norm(model: MultiExitModel) -> MultiExitModel:
    """A model for inference that gives the same logits, without the BatchNorms that follow a linear layer.

    With y = γ (W x + b − μ) / √(σ² + ε) + β, the layer takes the kernel γ W / √(σ² + ε) and the bias
    γ (b − μ) / √(σ² + ε) + β. A BatchNorm that follows something else, or a layer whose output is used
    elsewhere too, stays as it is.

    Args:
        model: trained; its weights are copied, not shared.

    Returns:
        A `MultiExitModel` with the same exits and thresholds. Its logits agree to rounding.
    """
    folded = MultiExitModel(
        [_folded(segment) for segment in model.segments],
        [_folded(head) for head in model.heads],
        name=model.name,
    )
    folded.thresholds.assign(model.thresholds)
    return folded


def _folded(part: keras.Model) -> keras.Model:
    part = getattr(part, "_functional", part)  # What a Sequential wraps.
    norms = _foldable_norms(part)  # Name of the linear layer -> its BatchNorm.
    dropped = {norm.name for norm in norms.values()}

    def clone(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.Model):
            return _folded(layer)
        config = layer.get_config()
        if layer.name in norms:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer: keras.Layer, *arguments: Any, **options: Any) -> Any:
        return arguments[0] if layer.name in dropped else layer(*arguments, **options)

    copy = keras.models.clone_model(part, clone_function=clone, call_function=call)
    for layer in copy.layers:
        if layer.weights and not isinstance(layer, keras.Model):
            original = part.get_layer(layer.name)
            norm = norms.get(layer.name)
            layer.set_weights(_scaled(original, norm) if norm else original.get_weights())
            if isinstance(layer, layers.Normalization):
                layer.finalize_state()  # It computes with what it makes of its weights.
    return copy


def _foldable_norms(part: keras.Model) -> dict[str, layers.BatchNormalization]:
    """Name of a linear layer → the BatchNorm that alone reads it, in this part; each is called once here."""
    # The part's own nodes: a layer may stand in other models too.
    nodes = [node for depth in part._nodes_by_depth.values() for node in depth if not node.is_input]
    calls = collections.Counter(id(node.operation) for node in nodes)
    readers = collections.Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    readers.update(id(tensor) for tensor in part.outputs)
    made_by = {id(tensor): node.operation for node in nodes for tensor in node.outputs}
    found = {}
    for node in nodes:
        norm = node.operation
        if not isinstance(norm, layers.BatchNormalization) or calls[id(norm)] > 1:
            continue
        read = node.input_tensors[0]
        before: Any = made_by.get(id(read))
        linear = type(before) in FOLDABLE and before.activation is keras.activations.linear
        if linear and calls[id(before)] == 1 and readers[id(read)] == 1 and norm.axis in (-1, read.ndim - 1):
            found[before.name] = norm
    return found


def _scaled(layer: keras.Layer, norm: layers.BatchNormalization) -> list[np.ndarray]:
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = (norm.gamma.numpy() if norm.scale else 1) / np.sqrt(variance + norm.epsilon)
    shift = (norm.beta.numpy() if norm.center else 0) - mean * scale
    kernel, *bias = layer.get_weights()
    # A depthwise kernel [h, w, c, m] gives the channels c·m, in this order.
    by_channel = scale.reshape(kernel.shape[-2:]) if isinstance(layer, layers.DepthwiseConv2D) else scale
    return [kernel * by_channel, shift + (bias[0] * scale if bias else 0)]
