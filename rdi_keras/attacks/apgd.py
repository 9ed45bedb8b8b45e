"""APGD: projected gradient ascent that chooses its own step size."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rdi_keras.attacks.balls import BALLS, Ball, parse_radius
from rdi_keras.attacks.randomness import Draw
from rdi_keras.attacks.solvers import GradientSolver

# Constants of the paper: α, ρ, and the places of the checkpoints, as shares of the steps.
MOMENTUM = 0.75
ENOUGH_RISES = 0.75
FIRST_PERIOD, SHORTER_BY, SHORTEST = 0.22, 0.03, 0.06


def checkpoints(num_steps: int) -> list[int]:
    """The steps after which APGD asks whether to halve its step size, in rising order."""
    places = [0.0, FIRST_PERIOD]
    while places[-1] < 1:
        places.append(places[-1] + max(places[-1] - places[-2] - SHORTER_BY, SHORTEST))
    # Sums such as 0.22 + 0.19 + 0.16 may come out a last digit too large.
    return sorted({math.ceil(place * num_steps - 1e-9) for place in places[1:] if place <= 1})


class _Memory(NamedTuple):
    previous: tf.Tensor  # the iterate before, [B, H, W, C]
    previous_loss: tf.Tensor  # its loss, [B]
    step_size: tf.Tensor  # [B]
    rises: tf.Tensor  # steps since the last checkpoint at which the loss rose, int32 [B]
    best: tf.Tensor  # the iterate with the largest loss, [B, H, W, C]
    best_loss: tf.Tensor  # [B]
    best_gradient: tf.Tensor  # [B, H, W, C]
    old_best_loss: tf.Tensor  # at the last checkpoint, [B]
    just_halved: tf.Tensor  # whether the step size was halved there, bool [B]


@dataclass(frozen=True)
class APGD(GradientSolver):
    """Auto-PGD: starts with steps of twice the radius, and halves a sample's step size and goes back to its
    best iterate wherever the loss stopped rising.

    Source: Croce & Hein, ICML 2020 (arXiv:2003.01690), section 3 and algorithm 1; but for the start,
    which is uniform in the ball, and for the first step after a halving, which has no momentum.

    Attributes:
        epsilon: radius of the ball, in pixel units.
        num_steps: gradient steps.
        restarts: how often to start anew; per sample the best result is kept.
        norm: `linf` or `l2`.
    """

    epsilon: float
    num_steps: int
    restarts: int = 1
    norm: str = "linf"
    settings = ("epsilon",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", parse_radius(self.norm, self.epsilon))
        self._check_counts()

    @property
    def ball(self) -> Ball:
        return BALLS[self.norm](self.epsilon)

    def start(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.ball.random_point(images, draw)

    def memory(self, first: tf.Tensor) -> _Memory:
        per_sample = tf.zeros(tf.shape(first)[:1])
        return _Memory(
            previous=first,
            previous_loss=per_sample + np.inf,  # The first iterate is no rise.
            step_size=per_sample + 2 * self.epsilon,
            rises=tf.cast(per_sample, tf.int32),
            best=first,
            best_loss=per_sample - np.inf,
            best_gradient=tf.zeros_like(first),
            old_best_loss=per_sample - np.inf,
            just_halved=per_sample > 0,
        )

    def step(
        self,
        number: tf.Tensor,
        iterate: tf.Tensor,
        loss: tf.Tensor,
        gradient: tf.Tensor,
        images: tf.Tensor,
        memory: _Memory,
    ) -> tuple[tf.Tensor, _Memory]:
        better = loss > memory.best_loss
        memory = memory._replace(
            rises=memory.rises + tf.cast(loss > memory.previous_loss, tf.int32),
            best=_choose(better, iterate, memory.best),
            best_gradient=_choose(better, gradient, memory.best_gradient),
            best_loss=tf.where(better, loss, memory.best_loss),
        )
        memory, halved = self._checked(number, memory)
        iterate = _choose(halved, memory.best, iterate)
        gradient = _choose(halved, memory.best_gradient, gradient)
        previous = _choose(halved, memory.best, memory.previous)

        direction = memory.step_size[:, None, None, None] * self.ball.steepest(gradient)
        moved = self.ball.project(iterate + direction, images)
        momentum = tf.where(number > 0, MOMENTUM, 1.0)
        towards = iterate + momentum * (moved - iterate) + (1 - momentum) * (iterate - previous)
        memory = memory._replace(previous=iterate, previous_loss=loss)
        return self.ball.project(towards, images), memory

    def _checked(self, number: tf.Tensor, memory: _Memory) -> tuple[_Memory, tf.Tensor]:
        """Memory after the checkpoint, if there is one at this step, and whose step size was halved."""
        lengths = np.zeros(self.num_steps, np.int32)
        last = 0
        for place in checkpoints(self.num_steps):
            if place < self.num_steps:
                lengths[place], last = place - last, place
        length = tf.gather(tf.constant(lengths), number)
        at_checkpoint = length > 0
        enough = ENOUGH_RISES * tf.cast(length, tf.float32)
        few_rises = tf.cast(memory.rises, tf.float32) < enough
        stuck = tf.logical_not(memory.just_halved) & (memory.best_loss <= memory.old_best_loss)
        halved = at_checkpoint & (few_rises | stuck)
        return memory._replace(
            step_size=tf.where(halved, memory.step_size / 2, memory.step_size),
            rises=tf.where(at_checkpoint, 0, memory.rises),
            old_best_loss=tf.where(at_checkpoint, memory.best_loss, memory.old_best_loss),
            just_halved=tf.where(at_checkpoint, halved, memory.just_halved),
        ), halved


def _choose(which: tf.Tensor, these: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    return tf.where(which[:, None, None, None], these, others)
