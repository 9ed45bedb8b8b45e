"""SmallCNN: four convolutions and three dense layers, with two side exits in the paper's layout."""

from collections.abc import Sequence

from keras import layers

from rdi_keras.models.heads import side_heads
from rdi_keras.models.multi_exit import Backbone, Block, Stage, Tensor

# Below this size, "valid" padding would leave too little of the image after four convolutions.
MIN_VALID_SIZE = 20


def small_cnn(
    input_shape: tuple[int, int, int],
    num_classes: int,
    exits_after: Sequence[int] = (1, 3),
    heads: str = "paper",
) -> Backbone:
    """The SmallCNN backbone with side exits after some of its four convolutions.

    Source: Hu et al., ICLR 2020 (arXiv:2002.10025), whose MNIST network this is for 28×28×1 images.
    Convolutions use `same` padding on images smaller than 20 pixels, `valid` padding elsewhere.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: length of the logits.
        exits_after: numbers (1 to 4) of the convolutions with a side exit behind them.
        heads: `paper` or `light`.

    Raises:
        InputError: if `exits_after` or `heads` are not allowed.

    Examples:
        >>> model = MultiExitModel.from_backbone(small_cnn((28, 28, 1), num_classes=10))
    """
    padding = "same" if min(input_shape[:2]) < MIN_VALID_SIZE else "valid"
    bodies = [
        _convolution(32, padding),
        _convolution(32, padding, pool=True),
        _convolution(64, padding),
        _convolution(64, padding, pool=True),
    ]
    found = side_heads(
        exits_after,
        len(bodies),
        "convolutions",
        heads,
        num_classes,
        lambda number, _: _side_head(num_classes, padding, convolve=number == 1),
    )
    stages = [Stage(body, found.get(number)) for number, body in enumerate(bodies, start=1)]
    stages.append(Stage(layers.Flatten(), _last_head(num_classes)))
    return Backbone("small_cnn", tuple(input_shape), tuple(stages))


def _convolution(filters: int, padding: str, pool: bool = False) -> Block:
    def block(features: Tensor) -> Tensor:
        features = layers.Conv2D(filters, 3, padding=padding, activation="relu")(features)
        return layers.MaxPooling2D(padding=padding)(features) if pool else features

    return block


def _side_head(num_classes: int, padding: str, convolve: bool) -> Block:
    """The first branch shrinks its large maps by a strided convolution; the others only pool."""

    def block(features: Tensor) -> Tensor:
        if convolve:
            features = layers.Conv2D(16, 3, strides=2, padding=padding)(features)
        features = layers.Flatten()(layers.MaxPooling2D(padding=padding)(features))
        features = layers.Dropout(0.5)(layers.Dense(200)(features))
        return layers.Dense(num_classes)(layers.Dense(200)(features))

    return block


def _last_head(num_classes: int) -> Block:
    def block(features: Tensor) -> Tensor:
        features = layers.Dense(200, activation="relu")(features)
        features = layers.Dropout(0.5)(features)
        features = layers.Dense(200, activation="relu")(features)
        return layers.Dense(num_classes)(features)

    return block
