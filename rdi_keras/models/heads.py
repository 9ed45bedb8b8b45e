"""Exit heads: what turns a stage's features into logits, and where heads may stand."""

import math
from collections.abc import Callable, Sequence

from keras import layers

from rdi_keras.errors import InputError
from rdi_keras.models.multi_exit import Block, Tensor

HEADS = ("paper", "light")
"""The kinds of side heads that a backbone takes by name."""
# Light heads pool to a grid of at most so many rows and columns.
GRID = 4


def light_head(num_classes: int, name: str = "light") -> Block:
    """Average-pools to a grid of at most 4×4 and adds a dense layer.

    With 10 classes all such heads together cost under 3 % of any backbone here.

    Args:
        num_classes: length of the logits.
        name: prefix of the layers' names.

    Raises:
        InputError: when called on features that are neither maps `[B, H, W, C]` nor vectors `[B, C]`.
    """

    def head(features: Tensor) -> Tensor:
        if len(features.shape) == 4:
            pool = [math.ceil(size / GRID) for size in features.shape[1:3]]
            features = layers.AveragePooling2D(pool, padding="same", name=f"{name}_pool")(features)
            features = layers.Flatten(name=f"{name}_flatten")(features)
        elif len(features.shape) != 2:
            raise InputError(
                "A light head takes features of shape [B, H, W, C] or [B, C]. Received: "
                f"{features.shape}. Name another layer, or give a head of your own"
            )
        return layers.Dense(num_classes, name=f"{name}_logits")(features)

    return head


def pooled_head(num_classes: int, name: str) -> Block:
    """Averages over all positions and adds a dense layer; arguments as for `light_head`."""

    def head(features: Tensor) -> Tensor:
        features = layers.GlobalAveragePooling2D(name=f"{name}_pool")(features)
        return layers.Dense(num_classes, name=f"{name}_logits")(features)

    return head


def side_heads(
    exits_after: Sequence[int],
    last: int,
    what: str,
    heads: str,
    num_classes: int,
    paper_head: Callable[[int, str], Block],
) -> dict[int, Block]:
    """The heads of a backbone's side exits.

    Args:
        exits_after: numbers of the pieces with a side exit behind them.
        last: the largest number allowed; the smallest is 1.
        what: what the numbers count, for the message.
        heads: `paper` or `light`.
        num_classes: length of the logits.
        paper_head: makes the paper's head behind a piece, from its number and a prefix for names.

    Returns:
        Piece number → head.

    Raises:
        InputError: if a number is not allowed or appears twice, or there are no such heads.
    """
    if set(exits_after) - set(range(1, last + 1)) or len(set(exits_after)) != len(exits_after):
        raise InputError(
            f"exits_after must name {what} 1 to {last}, each once. Received: {list(exits_after)}"
        )
    if heads not in HEADS:
        raise InputError(f"Unknown heads {heads!r}. Allowed: {', '.join(HEADS)}")
    made = {}
    for number, piece in enumerate(sorted(exits_after), start=1):
        name = f"head_{number}"
        made[piece] = light_head(num_classes, name) if heads == "light" else paper_head(piece, name)
    return made
