"""Residual networks: the ResNet-(6n+2) family for small images, and ResNet-18 for any size."""

from collections.abc import Sequence
from functools import partial

from keras import layers

from rdi_keras.errors import InputError
from rdi_keras.models.blocks import basic_block, convolution
from rdi_keras.models.heads import pooled_head, side_heads
from rdi_keras.models.multi_exit import Backbone, Block, Stage, Tensor

DEPTHS = (20, 32, 38, 44, 56, 74, 110)
"""The depths that `resnet` builds, 6 n + 2 layers each."""
# From these image sizes on ResNet-18's stem halves the image once, and twice, before the first block.
HALVED_ONCE, HALVED_TWICE = 64, 128


def resnet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    depth: int = 38,
    exits_after: Sequence[int] | None = None,
    heads: str = "paper",
) -> Backbone:
    """ResNet-(6n+2): three groups of n basic blocks with 16, 32 and 64 channels.

    Source: He et al., CVPR 2016 (arXiv:1512.03385), section 4.2, with projection short cuts; side exits
    as in Hu et al., ICLR 2020 (arXiv:2002.10025), whose CIFAR-10 network is depth 38 on 32×32×3 images.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: length of the logits.
        depth: 20, 32, 38, 44, 56, 74 or 110.
        exits_after: numbers (1 to 3n − 1) of the blocks with a side exit behind them; default: two in
            each group, as in the paper: for depth 38 after blocks 2, 5, 8, 11, 14 and 17.
        heads: `paper` or `light`.

    Raises:
        InputError: if depth, `exits_after` or `heads` are not allowed.

    Examples:
        >>> model = MultiExitModel.from_backbone(resnet((32, 32, 3), num_classes=10, depth=38))
    """
    if depth not in DEPTHS:
        raise InputError(f"depth must be one of {', '.join(map(str, DEPTHS))}. Received: {depth}")
    per_group = (depth - 2) // 6
    if exits_after is None:
        early, late = per_group // 4 + 1, min(3 * per_group // 4 + 1, per_group - 1)
        exits_after = [group * per_group + place for group in range(3) for place in (early, late)]
    stem = partial(convolution, filters=16, size=3, name="stem_conv", relu=True)
    name = f"resnet{depth}"
    return _residual(name, input_shape, num_classes, stem, (16, 32, 64), per_group, exits_after, heads)


def resnet18(
    input_shape: tuple[int, int, int],
    num_classes: int,
    exits_after: Sequence[int] = (2, 4, 6),
    heads: str = "paper",
) -> Backbone:
    """ResNet-18: four groups of two basic blocks with 64, 128, 256 and 512 channels.

    The stem fits the image: below 64 pixels a 3×3 convolution, below 128 the same with stride 2, and
    from 128 on the original's 7×7 with stride 2 and max-pooling. Source: He et al., CVPR 2016
    (arXiv:1512.03385), table 1.

    Args:
        input_shape: `(height, width, channels)`, such as 64, 96 or 224 pixels square.
        num_classes: length of the logits.
        exits_after: numbers (1 to 7) of the blocks with a side exit behind them.
        heads: `light`, or `paper`: those of the paper's ResNet-38, by group.

    Raises:
        InputError: if `exits_after` or `heads` are not allowed.
    """
    size = min(input_shape[:2])

    def stem(images: Tensor) -> Tensor:
        kernel, stride = (7 if size >= HALVED_TWICE else 3), (2 if size >= HALVED_ONCE else 1)
        features = convolution(images, 64, kernel, stride, name="stem_conv", relu=True)
        return layers.MaxPooling2D(3, 2, padding="same")(features) if size >= HALVED_TWICE else features

    widths = (64, 128, 256, 512)
    return _residual("resnet18", input_shape, num_classes, stem, widths, 2, exits_after, heads)


def _residual(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    stem: Block,
    widths: Sequence[int],
    per_group: int,
    exits_after: Sequence[int],
    heads: str,
) -> Backbone:
    """Stem and groups of basic blocks, one group per width; all but the first start with stride 2."""
    count = len(widths) * per_group
    found = side_heads(
        exits_after,
        count - 1,
        "blocks",
        heads,
        num_classes,
        lambda block, prefix: _paper_head((block - 1) // per_group, num_classes, prefix),
    )
    found[count] = pooled_head(num_classes, "last")
    stages = [Stage(stem)]
    for block in range(1, count + 1):
        group, place = divmod(block - 1, per_group)
        stride = 2 if group > 0 and place == 0 else 1
        body = partial(basic_block, filters=widths[group], stride=stride, name=f"block_{block}")
        stages.append(Stage(body, found.get(block)))
    return Backbone(name, tuple(input_shape), tuple(stages))


def _paper_head(group: int, num_classes: int, name: str) -> Block:
    """The earlier the exit, the larger its maps, and the more a head has to do."""
    answer = pooled_head(num_classes, name)

    def first_group(features: Tensor) -> Tensor:
        features = layers.MaxPooling2D(padding="same")(features)
        features = convolution(features, 64, 5, name=f"{name}_conv1", relu=True)
        features = layers.MaxPooling2D(padding="same")(features)
        return answer(convolution(features, 32, 3, name=f"{name}_conv2"))

    def second_group(features: Tensor) -> Tensor:
        features = layers.MaxPooling2D(padding="same")(features)
        return answer(basic_block(features, features.shape[-1], name=f"{name}_block"))

    return {0: first_group, 1: second_group}.get(group, answer)
