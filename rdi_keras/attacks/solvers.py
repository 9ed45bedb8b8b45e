"""How a loss is climbed inside the L∞ ball: one loop, and the steps that solvers take in it."""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from rdi_keras.errors import InputError
from rdi_keras.names import parse_epsilon

# The way through the ball that all steps together could go, in units of epsilon.
REACH = 2.5


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent on the sign of the gradient. Source: Madry et al., ICLR 2018.

    Attributes:
        epsilon: radius of the L∞ ball, in pixel units (images lie in [0, 1]).
        num_steps: gradient steps.
        step_size: length of a step, in pixel units.
        random_start: whether to start at a uniformly drawn point of the ball.
        restarts: how often to start anew; per sample the best result is kept.
    """

    epsilon: float
    num_steps: int
    step_size: float
    random_start: bool = True
    restarts: int = 1

    def __post_init__(self):
        object.__setattr__(self, "epsilon", parse_epsilon(self.epsilon))
        if self.num_steps < 1 or self.restarts < 1 or self.step_size < 0:
            raise InputError(
                "An attack takes at least 1 step, at least 1 restart and a step size of at least 0. "
                f"Received: num_steps={self.num_steps}, restarts={self.restarts}, "
                f"step_size={self.step_size}"
            )

    def start(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The first iterate; `seed` is an integer tensor of shape `[2]`."""
        if not self.random_start:
            return images
        noise = tf.random.stateless_uniform(tf.shape(images), seed, -self.epsilon, self.epsilon, images.dtype)
        return self.project(images + noise, images)

    def step(self, iterate: tf.Tensor, gradient: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """The next iterate, inside the ball."""
        return self.project(iterate + self.step_size * tf.sign(gradient), images)

    def project(self, candidate: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """Clips to the ball around the images and to [0, 1]."""
        candidate = tf.clip_by_value(candidate, images - self.epsilon, images + self.epsilon)
        return tf.clip_by_value(candidate, 0.0, 1.0)


def fgsm(epsilon: float) -> PGD:
    """One full step from the image itself. Source: Goodfellow et al., ICLR 2015."""
    return PGD(epsilon, num_steps=1, step_size=parse_epsilon(epsilon), random_start=False)


def ascend(
    solver: PGD,
    value: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    images: tf.Tensor,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Climbs and returns, per sample, the best iterate met.

    Args:
        solver: gives the start and the steps.
        value: maps images to `(loss [B], fooled [B])`. An iterate with `fooled` beats every one
            without; among equals the larger loss wins.
        images: the clean images, float32 `[B, H, W, C]`.
        seed: integer tensor `[2]`, the only source of randomness.

    Returns:
        Images of the same shape, inside the ball and [0, 1].
    """

    def keep_better(
        best: tf.Tensor, best_rank: tf.Tensor, iterate: tf.Tensor, loss: tf.Tensor, fooled: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rank = rank_of(loss, fooled)
        better = rank > best_rank
        return tf.where(better[:, None, None, None], iterate, best), tf.where(better, rank, best_rank)

    def body(
        step: tf.Tensor, iterate: tf.Tensor, best: tf.Tensor, best_rank: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(iterate)
            loss, fooled = value(iterate)
        gradient = tape.gradient(loss, iterate)
        best, best_rank = keep_better(best, best_rank, iterate, loss, fooled)
        return step + 1, solver.step(iterate, gradient, images), best, best_rank

    first = solver.start(images, seed)
    nothing = tf.fill(tf.shape(images)[:1], tf.constant(tf.float64.min, tf.float64))
    _, last, best, best_rank = tf.while_loop(
        lambda step, *_: step < solver.num_steps,
        body,
        (tf.constant(0), first, first, nothing),
        parallel_iterations=1,
    )
    best, _ = keep_better(best, best_rank, last, *value(last))
    return best


def rank_of(loss: tf.Tensor, fooled: tf.Tensor) -> tf.Tensor:
    """Orders candidates: those that fool the network first, then by loss. float64 `[B]`.

    A loss that is no number ranks nowhere: no comparison with it holds.
    """
    # The arctangent rises and stays within ±π/2, so no loss makes up for 4. In float64 it tells
    # neighbouring float32 losses apart, unless they are very small or very large (1e-7, 1e7).
    return tf.atan(tf.cast(loss, tf.float64)) + 4.0 * tf.cast(fooled, tf.float64)
