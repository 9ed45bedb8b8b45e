"""Where an attack may move an image to: all points of [0, 1] near it, by one norm or another."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import tensorflow as tf

from rdi_keras.attacks.randomness import Draw
from rdi_keras.errors import InputError
from rdi_keras.names import parse_epsilon, parse_length

# Rounding of float32 sums may carry a point this far over the edge.
TOLERANCE = 1e-5
TINY = 1e-12
# What a start draws for.
POINT, RADIUS = 0, 1


@dataclass(frozen=True)
class Ball(ABC):
    """The points of [0, 1] whose distance from an image is at most epsilon.

    Attributes:
        epsilon: the radius, in pixel units. A tensor may stand here, so that a compiled function serves
            any radius.
    """

    epsilon: float

    @staticmethod
    @abstractmethod
    def parse(text: str | float) -> float:
        """A radius, checked."""

    @abstractmethod
    def project(self, candidate: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """The point of the ball around each image for each candidate, both `[B, H, W, C]`."""

    @abstractmethod
    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        """The direction of length 1 along which a linear function with this gradient rises most."""

    @abstractmethod
    def random_point(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        """A point of the ball around each image."""

    @abstractmethod
    def distance(self, candidate: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """How far each candidate is from its image, `[B]`."""

    def holds(self, candidate: tf.Tensor, images: tf.Tensor) -> bool:
        """Whether every candidate lies in the ball around its image, but for rounding, and in [0, 1]."""
        inside = tf.reduce_all(
            self.distance(candidate, images) <= self.epsilon + TOLERANCE * (1 + self.epsilon)
        )
        return bool(inside) and bool(tf.reduce_all((candidate >= 0) & (candidate <= 1)))


@dataclass(frozen=True)
class Linf(Ball):
    """Every pixel moves by at most epsilon."""

    parse = staticmethod(parse_epsilon)

    def project(self, candidate: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        candidate = tf.clip_by_value(candidate, images - self.epsilon, images + self.epsilon)
        return tf.clip_by_value(candidate, 0.0, 1.0)

    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        return tf.sign(gradient)

    def random_point(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.project(images + self.epsilon * (2 * draw(images.shape[1:], POINT) - 1), images)

    def distance(self, candidate: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(tf.abs(candidate - images), axis=(1, 2, 3))


@dataclass(frozen=True)
class L2(Ball):
    """The squared changes of all pixels add up to at most epsilon squared."""

    parse = staticmethod(parse_length)

    def project(self, candidate: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        change = candidate - images
        change *= tf.minimum(1.0, self.epsilon / tf.maximum(_norm(change), TINY))
        # Clipping to [0, 1], where the image lies too, only shortens the change.
        return tf.clip_by_value(images + change, 0.0, 1.0)

    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        return gradient / tf.maximum(_norm(gradient), TINY)

    def random_point(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        shape = images.shape[1:]
        direction = tf.math.ndtri(tf.clip_by_value(draw(shape, POINT), 1e-6, 1 - 1e-6))
        radius = self.epsilon * draw([1, 1, 1], RADIUS) ** (1 / shape.num_elements())
        return self.project(images + radius * self.steepest(direction), images)

    def distance(self, candidate: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        return _norm(candidate - images)[:, 0, 0, 0]


def _norm(change: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(change), axis=(1, 2, 3), keepdims=True))


BALLS: dict[str, type[Ball]] = {"linf": Linf, "l2": L2}


def parse_radius(norm: str, epsilon: float | str) -> float:
    """A radius in pixel units, as a number or a fraction such as `8/255`, for a ball of this norm.

    Raises:
        InputError: if there is no such norm, or the radius is not allowed.
    """
    if norm not in BALLS:
        raise InputError(f"Unknown norm {norm!r}. Allowed: {', '.join(BALLS)}")
    return BALLS[norm].parse(epsilon)
