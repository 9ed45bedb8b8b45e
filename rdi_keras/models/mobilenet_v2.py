"""MobileNet-V2 with side exits, for 32×32 images and larger ones."""

from collections.abc import Sequence
from functools import partial

from keras import layers

from rdi_keras.errors import InputError
from rdi_keras.models.blocks import batch_norm, convolution, inverted_residual
from rdi_keras.models.heads import pooled_head, side_heads
from rdi_keras.models.multi_exit import Backbone, Block, Stage, Tensor

# Expansion, channels, repeats, stride of the first repeat.
GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS, LAST_CHANNELS = 32, 1280
EXPANSION = 6
# Images below these sizes are not halved by the stem, and by the second group.
STEM_HALVES_FROM, GROUP_HALVES_FROM = 64, 128
# Channels are rounded to multiples of this, as everywhere for this network.
CHANNEL_UNIT = 8


def mobilenet_v2(
    input_shape: tuple[int, int, int],
    num_classes: int,
    exits_after: Sequence[int] = (2, 5, 8, 10, 13, 16),
    heads: str = "paper",
    width: float = 1.0,
) -> Backbone:
    """MobileNet-V2: seven groups of inverted residuals.

    Below 64 pixels stem and second group keep the image's size, as in the paper's CIFAR-10 network;
    below 128 only the second group does; from 128 on both halve it, as in the original. Source: Sandler
    et al., CVPR 2018 (arXiv:1801.04381), table 2; side exits as in Hu et al., ICLR 2020
    (arXiv:2002.10025).

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: length of the logits.
        exits_after: numbers (1 to 18, the stem is layer 1) of the layers with a side exit behind them.
        heads: `paper` or `light`.
        width: multiplies all channels, which are rounded to multiples of 8.

    Raises:
        InputError: if `exits_after`, `heads` or `width` are not allowed.

    Examples:
        >>> model = MultiExitModel.from_backbone(mobilenet_v2((32, 32, 3), num_classes=10))
    """
    if not 0 < width <= 4:
        raise InputError(f"width must be above 0 and at most 4. Received: {width}")
    size = min(input_shape[:2])
    blocks = [
        (expansion, _scaled(channels, width), stride if place == 0 else 1)
        for group, (expansion, channels, repeats, stride) in enumerate(GROUPS)
        for stride in [1 if group == 1 and size < GROUP_HALVES_FROM else stride]
        for place in range(repeats)
    ]
    paper_head = partial(_paper_head, num_classes=num_classes, width=width)
    found = side_heads(exits_after, len(blocks) + 1, "layers", heads, num_classes, paper_head)
    stem_stride = 2 if size >= STEM_HALVES_FROM else 1
    channels = _scaled(STEM_CHANNELS, width)
    stem = partial(convolution, filters=channels, size=3, stride=stem_stride, name="stem_conv", relu=True)
    stages = [Stage(stem, found.get(1))]
    for layer, (expansion, channels, stride) in enumerate(blocks, start=2):
        body = partial(
            inverted_residual, filters=channels, expansion=expansion, stride=stride, name=f"layer_{layer}"
        )
        stages.append(Stage(body, found.get(layer)))
    channels = _scaled(LAST_CHANNELS, width)
    last = partial(convolution, filters=channels, size=1, name="last_conv", relu=True)
    stages.append(Stage(last, pooled_head(num_classes, "last")))
    return Backbone("mobilenet_v2", tuple(input_shape), tuple(stages))


def _paper_head(layer: int, name: str, num_classes: int, width: float) -> Block:
    """Heads on large maps shrink them first; the paper's first two exits are of these two kinds."""
    answer = pooled_head(num_classes, name)

    def on_first_group(features: Tensor) -> Tensor:
        channels = _scaled(32, width)
        features = inverted_residual(features, channels, EXPANSION, 2, name=f"{name}_block1")
        features = layers.ReLU()(batch_norm(features, f"{name}_bn1"))
        features = inverted_residual(features, 2 * channels, EXPANSION, 2, name=f"{name}_block2")
        return answer(batch_norm(features, f"{name}_bn2"))

    def on_early_groups(features: Tensor) -> Tensor:
        channels = features.shape[-1]
        return answer(inverted_residual(features, channels, EXPANSION, 2, name=f"{name}_block1"))

    if layer <= 2:
        return on_first_group
    return on_early_groups if layer <= 7 else answer


def _scaled(channels: int, width: float) -> int:
    """Rounded to the nearest multiple of 8, never by more than a tenth downwards."""
    scaled = channels * width
    rounded = max(CHANNEL_UNIT, int(scaled + CHANNEL_UNIT / 2) // CHANNEL_UNIT * CHANNEL_UNIT)
    return rounded + CHANNEL_UNIT if rounded < 0.9 * scaled else rounded
