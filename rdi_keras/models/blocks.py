"""The pieces that residual and inverted-residual networks, and the paper's heads, are made of.

Everything is laid out as in PyTorch, so that published weights fit: convolutions without bias, padding the
same on all sides (Keras's `same` is not, across a stride), BatchNorm with ε = 1e-5 and momentum 0.1 (Keras
counts the other way: 0.9).
"""

from keras import layers

from rdi_keras.models.multi_exit import Tensor


def convolution(
    features: Tensor,
    filters: int,
    size: int,
    stride: int = 1,
    *,
    name: str,
    norm: str | None = None,
    relu: bool = False,
) -> Tensor:
    """A convolution, BatchNorm, and ReLU if asked for.

    Args:
        features: `[B, H, W, C]`.
        filters: output channels.
        size: of the kernel, odd.
        stride: of the convolution.
        name: of the convolution.
        norm: name of the BatchNorm; default: `name` with `conv` replaced by `bn`.
        relu: whether a ReLU follows.
    """
    convolve = layers.Conv2D(
        filters,
        size,
        stride,
        padding="valid" if stride > 1 else "same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )
    features = convolve(_padded(features, size, stride))
    features = batch_norm(features, norm or name.replace("conv", "bn"))
    return layers.ReLU()(features) if relu else features


def depthwise_convolution(features: Tensor, size: int, stride: int, *, name: str) -> Tensor:
    """A depthwise convolution, BatchNorm and ReLU; arguments as for `convolution`."""
    convolve = layers.DepthwiseConv2D(
        size,
        stride,
        padding="valid" if stride > 1 else "same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=name,
    )
    features = convolve(_padded(features, size, stride))
    return layers.ReLU()(batch_norm(features, name.replace("conv", "bn")))


def batch_norm(features: Tensor, name: str) -> Tensor:
    """BatchNorm with PyTorch's constants."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(features)


def basic_block(features: Tensor, filters: int, stride: int = 1, *, name: str) -> Tensor:
    """Two 3×3 convolutions and a short cut, 1×1 convolution + BatchNorm where the shape changes.

    Source: He et al., CVPR 2016 (arXiv:1512.03385), figure 2, with projection short cuts.
    """
    shortcut = features
    if stride > 1 or features.shape[-1] != filters:
        shortcut = convolution(features, filters, 1, stride, name=f"{name}_shortcut_conv")
    features = convolution(features, filters, 3, stride, name=f"{name}_conv1", relu=True)
    features = convolution(features, filters, 3, name=f"{name}_conv2")
    return layers.ReLU()(layers.Add()([features, shortcut]))


def inverted_residual(features: Tensor, filters: int, expansion: int, stride: int, *, name: str) -> Tensor:
    """Expand, filter channel by channel, project; a short cut where the stride is 1.

    Where channels change at stride 1 the short cut is a 1×1 convolution + BatchNorm, as in the paper's
    network. Source: Sandler et al., CVPR 2018 (arXiv:1801.04381), section 3.3.
    """
    shortcut = features
    features = convolution(features, expansion * features.shape[-1], 1, name=f"{name}_conv1", relu=True)
    features = depthwise_convolution(features, 3, stride, name=f"{name}_conv2")
    features = convolution(features, filters, 1, name=f"{name}_conv3")
    if stride > 1:
        return features
    if shortcut.shape[-1] != filters:
        shortcut = convolution(shortcut, filters, 1, name=f"{name}_shortcut_conv")
    return layers.Add()([features, shortcut])


def _padded(features: Tensor, size: int, stride: int) -> Tensor:
    if stride == 1 or size == 1:
        return features
    return layers.ZeroPadding2D(size // 2)(features)
