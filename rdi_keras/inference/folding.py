"""BatchNorm folded into the layer before it: the same numbers from fewer operations."""

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

    def call(layer, *arguments, **options):
        return arguments[0] if layer.name in dropped else layer(*arguments, **options)

    copy = keras.models.clone_model(part, clone_function=clone, call_function=call)
    for layer in copy.layers:
        if layer.weights and not isinstance(layer, keras.Model):
            original = part.get_layer(layer.name)
            norm = norms.get(layer.name)
            layer.set_weights(_scaled(original, norm) if norm else original.get_weights())
    return copy


def _foldable_norms(part: keras.Model) -> dict[str, layers.BatchNormalization]:
    found = {}
    for norm in part.layers:
        if not isinstance(norm, layers.BatchNormalization) or len(norm._inbound_nodes) != 1:
            continue
        before = norm.input._keras_history.operation
        linear = type(before) in FOLDABLE and before.activation is keras.activations.linear
        # Used once: its own output is what the BatchNorm alone reads, and it is called once.
        once = linear and len(before._inbound_nodes) == 1 and len(before._outbound_nodes) == 1
        if once and before.output is not part.output and norm.axis in (-1, len(norm.input.shape) - 1):
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
