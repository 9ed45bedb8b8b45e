"""WRM: an attack that pays for distance instead of keeping to a ball."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from rdi_keras.attacks.randomness import Draw
from rdi_keras.attacks.solvers import GradientSolver
from rdi_keras.names import parse_length


@dataclass(frozen=True)
class WRM(GradientSolver):
    """Ascends ε · L − ½ ‖δ‖₂² from the image itself, with steps of 1 / √(t + 2); images stay in [0, 1].

    There is no ball: this is another threat model than L∞, to be reported apart. Source: Sinha et al.,
    ICLR 2018 (arXiv:1710.10571), as an attack in Hu et al., ICLR 2020.

    Attributes:
        epsilon: weight of the loss; the larger, the farther it goes.
        num_steps: gradient steps.
    """

    epsilon: float
    num_steps: int
    restarts = 1
    norm = "penalty"
    settings = ("epsilon", "num_steps")

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", parse_length(self.epsilon))
        self._check_counts()

    def start(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        return images

    def step(
        self,
        number: tf.Tensor,
        iterate: tf.Tensor,
        loss: tf.Tensor,
        gradient: tf.Tensor,
        images: tf.Tensor,
        memory: Any,
    ) -> tuple[tf.Tensor, Any]:
        step_size = tf.math.rsqrt(tf.cast(number, tf.float32) + 2)
        uphill = self.epsilon * gradient - (iterate - images)
        return tf.clip_by_value(iterate + step_size * uphill, 0.0, 1.0), memory

    def worth(self, loss: tf.Tensor, iterate: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        distance = tf.reduce_sum(tf.square(iterate - images), axis=(1, 2, 3))
        return self.epsilon * loss - distance / 2
