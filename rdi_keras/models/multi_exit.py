"""Turns a backbone with exit heads into one Keras functional model with named exits."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from rdi_keras.errors import InputError
from rdi_keras.names import IMAGES, exit_name

Tensor = Any  # Of Keras's backend or symbolic, or an array that Keras takes.
Block = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stage:
    """A piece of a backbone, and the exit head that follows it, if any.

    Attributes:
        body: maps the features of the stage before (a Keras tensor) to this stage's features.
        head: maps this stage's features to logits of shape `[B, C]`; `None` for no exit here.
    """

    body: Block
    head: Block | None = None


@dataclass(frozen=True)
class Backbone:
    """A network as a list of stages; the last stage's head is the backbone's own output.

    Attributes:
        name: a name for messages and files.
        input_shape: `(height, width, channels)`.
        stages: the stages in order. The last one must have a head.
    """

    name: str
    input_shape: tuple[int, ...]
    stages: tuple[Stage, ...]

    def without_side_exits(self) -> "Backbone":
        """Returns the same backbone with its last exit only."""
        bare = [replace(stage, head=None) for stage in self.stages[:-1]]
        return replace(self, stages=(*bare, self.stages[-1]))


@keras.saving.register_keras_serializable(package="rdi_keras")
class MultiExitModel(keras.Model):
    """A functional model with outputs `exit_1 … exit_N`, each logits of shape `[B, C]`.

    The backbone is cut after every exit into N segments, so that segment k followed by head k gives
    exit k. Segments and heads are functional models themselves, share their weights with the whole
    model, and can be called one by one. `exit_N` is the backbone's own output.

    Args:
        segments: N functional models, each taking the features that the one before gives.
        heads: N functional models; head k takes the features of segment k.
        name: the model's name.

    Examples:
        >>> model = MultiExitModel.from_backbone(small_cnn((28, 28, 1), num_classes=10))
        >>> logits = model(images, training=False)  # {"exit_1": [B, 10], ...}
    """

    def __init__(
        self,
        segments: Sequence[keras.Model],
        heads: Sequence[keras.Model],
        name: str | None = None,
    ):
        if len(segments) != len(heads) or not segments:
            raise InputError(
                "A multi-exit model takes one head per segment and at least one segment. "
                f"Received: {len(segments)} segments, {len(heads)} heads"
            )

        # === Functional Model ===
        images = keras.Input(segments[0].input_shape[1:], name=IMAGES)
        features, outputs = images, {}
        for number, (segment, head) in enumerate(zip(segments, heads, strict=True), start=1):
            features = segment(features)
            outputs[exit_name(number)] = head(features)
        super().__init__(inputs=images, outputs=outputs, name=name)

        # === Config ===
        self.segments = list(segments)
        self.heads = list(heads)
        # A weight, so that it is saved with the model and can change without a new trace. Entropy is
        # never below 0: until the thresholds are calibrated, every sample goes on to the last exit.
        self.thresholds = self.add_weight(
            name="thresholds", shape=(self.num_exits - 1,), initializer="zeros", trainable=False
        )

    @classmethod
    def from_backbone(cls, backbone: Backbone, name: str | None = None) -> "MultiExitModel":
        """Builds the model, with fresh weights, that a backbone describes."""
        if not backbone.stages or backbone.stages[-1].head is None:
            raise InputError(
                f"The last stage of backbone {backbone.name!r} needs a head, which gives the last "
                "exit's logits. Received: none"
            )
        segments: list[keras.Model] = []
        heads: list[keras.Model] = []
        bodies: list[Block] = []
        shape = backbone.input_shape
        for stage in backbone.stages:
            bodies.append(stage.body)
            if stage.head is None:
                continue
            segments.append(_functional(shape, bodies, f"segment_{len(heads) + 1}"))
            shape, bodies = segments[-1].output_shape[1:], []
            heads.append(_functional(shape, [stage.head], exit_name(len(heads) + 1)))
        return cls(segments, heads, name=name or backbone.name)

    @property
    def num_exits(self) -> int:
        """N, the last exit included."""
        return len(self.heads)

    @property
    def num_classes(self) -> int:
        """C, the length of every exit's logits."""
        return self.heads[-1].output_shape[-1]

    def iter_logits(self, images: Tensor, training: bool = False) -> Iterator[Tensor]:
        """Yields the logits `[B, C]` of exit 1, 2, … and runs no segment before it is asked for."""
        features = images
        for segment, head in zip(self.segments, self.heads, strict=True):
            features = segment(features, training=training)
            yield head(features, training=training)

    def logits(self, images: Tensor, up_to: int | None = None, training: bool = False) -> list[Tensor]:
        """Returns the logits of exits 1 … `up_to` (default N) and runs nothing beyond.

        Args:
            images: float32 `[B, H, W, C]` in [0, 1].
            up_to: 1-based number of the last exit that is needed.
            training: whether dropout and BatchNorm run in training mode.

        Raises:
            InputError: if there is no exit `up_to`.
        """
        up_to = self.num_exits if up_to is None else up_to
        if not 1 <= up_to <= self.num_exits:
            raise InputError(f"up_to must be an exit, 1 to {self.num_exits}. Received: {up_to}")
        exits = self.iter_logits(images, training)
        return [next(exits) for _ in range(up_to)]

    def keep_exits(self, numbers: Sequence[int]) -> "MultiExitModel":
        """The same network with some of its exits, which are numbered anew; it shares the weights.

        Segments between two exits that stay are fused into one. A side exit keeps its threshold.

        Args:
            numbers: 1-based, rising; the last exit must be among them.

        Raises:
            InputError: if they are not that.
        """
        numbers = list(numbers)
        allowed = range(1, self.num_exits + 1)
        rising = numbers == sorted(set(numbers)) and set(numbers) <= set(allowed)
        if not rising or numbers[-1:] != [self.num_exits]:
            raise InputError(
                f"Exits to keep must be rising numbers from 1 to {self.num_exits}, the last one included. "
                f"Received: {numbers}"
            )
        segments = [
            _functional(self.segments[start].input_shape[1:], self.segments[start:stop], f"segment_{place}")
            for place, (start, stop) in enumerate(itertools.pairwise([0, *numbers]), start=1)
        ]
        # Wrapped, as a part's name is the name of its exit.
        heads = [
            _functional(self.heads[number - 1].input_shape[1:], [self.heads[number - 1]], exit_name(place))
            for place, number in enumerate(numbers, start=1)
        ]
        kept = type(self)(segments, heads, name=self.name)
        kept.thresholds.assign(self.thresholds.numpy()[np.asarray(numbers[:-1], int) - 1])
        return kept

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            "segments": [serialize(segment) for segment in self.segments],
            "heads": [serialize(head) for head in self.heads],
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "MultiExitModel":
        parts = {
            key: [keras.saving.deserialize_keras_object(part, custom_objects) for part in value]
            for key, value in config.items()
            if key in ("segments", "heads")
        }
        return cls(**{**config, **parts})


def _functional(shape: tuple[int, ...], blocks: Sequence[Block], name: str) -> keras.Model:
    inputs = keras.Input(shape)
    outputs = inputs
    for block in blocks:
        outputs = block(outputs)
    return keras.Model(inputs, outputs, name=name)
