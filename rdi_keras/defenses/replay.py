"""Free adversarial training: one gradient serves the weights and the attack."""

import tensorflow as tf

from rdi_keras.errors import InputError
from rdi_keras.names import parse_epsilon


class CarriedPerturbation:
    """A perturbation that is carried from step to step and climbs along the gradients of training.

    Each batch is to be used several times in a row. Source: Shafahi et al. (Free-AT), NeurIPS 2019
    (arXiv:1904.12843).

    Args:
        epsilon: radius of the L∞ ball, in pixel units.
        shape: of a batch, `[B, H, W, C]`.

    Attributes:
        delta: float32 `[B, H, W, C]`.
    """

    def __init__(self, epsilon: float | str, shape: tuple[int, ...]):
        self.epsilon = parse_epsilon(epsilon)
        if len(shape) != 4 or min(shape) < 1:
            raise InputError(f"A batch of images has shape [B, H, W, C]. Received: {shape}")
        self.delta = tf.Variable(tf.zeros(shape), trainable=False, name="carried_perturbation")

    def apply(self, images: tf.Tensor) -> tf.Tensor:
        """The images of a batch with the perturbation, in [0, 1]."""
        return tf.clip_by_value(images + self.delta, 0.0, 1.0)

    def climb(self, gradient: tf.Tensor) -> None:
        """One step of ε uphill, inside the ball."""
        moved = self.delta + self.epsilon * tf.sign(gradient)
        self.delta.assign(tf.clip_by_value(moved, -self.epsilon, self.epsilon))
