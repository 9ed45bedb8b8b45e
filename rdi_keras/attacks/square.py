"""Square attack: no gradient, only answers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from rdi_keras.attacks.balls import Ball, Linf
from rdi_keras.attacks.randomness import Draw
from rdi_keras.attacks.solvers import Solver, Value, rank_of

# After which share of the queries the squares' area halves.
HALVINGS = np.array([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]) / 10_000
STRIPES, SQUARES = 0, 1


@dataclass(frozen=True)
class Square(Solver):
    """Random search with squares of ±ε that shrink; a square stays where it raised the loss.

    It sees what the objective's loss sees. With the loss of the adaptive answer, such as
    `exit_aware_margin`, it is a black-box attack: it asks the deployed network for its answer's scores and
    nothing else. Source: Andriushchenko et al., ECCV 2020 (arXiv:1912.00049), algorithms 1 and 2.

    Attributes:
        epsilon: radius of the L∞ ball, in pixel units.
        num_steps: queries after the first.
        restarts: how often to start anew; per sample the best result is kept.
        area: share of the image that the first squares cover.
    """

    epsilon: float
    num_steps: int
    restarts: int = 1
    area: float = 0.8
    norm = "linf"
    settings = ("epsilon",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", Linf.parse(self.epsilon))
        self._check_counts()

    @property
    def ball(self) -> Ball:
        return Linf(self.epsilon)

    def run(self, value: Value, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self._search(value, images, draw, lambda: None)

    def trace(
        self, value: Value, images: tf.Tensor, draw: Draw, on_step: Callable[[], None] = lambda: None
    ) -> tf.Tensor:
        return tf.stack([images, self._search(value, images, draw, on_step)])

    def _search(self, value: Value, images: tf.Tensor, draw: Draw, on_step: Callable[[], None]) -> tf.Tensor:
        height, width, channels = images.shape[1:]
        sizes = tf.constant(self._sizes(height, width))
        squares = draw([self.num_steps, 2 + channels], SQUARES)
        rows, columns = tf.range(height)[None, :, None, None], tf.range(width)[None, None, :, None]

        def body(number: tf.Tensor, best: tf.Tensor, best_rank: tf.Tensor) -> tuple:
            on_step()
            size, chosen = sizes[number], squares[:, number]
            room = tf.cast([height - size + 1, width - size + 1], tf.float32)
            corner = tf.cast(tf.floor(chosen[:, :2] * room), tf.int32)[:, None, None, :]
            top, left = corner[..., :1], corner[..., 1:]
            inside = (rows >= top) & (rows < top + size) & (columns >= left) & (columns < left + size)
            colour = self.epsilon * _signs(chosen[:, None, None, 2:])
            candidate = self.ball.project(tf.where(inside, images + colour, best), images)
            rank = rank_of(*value(candidate))
            better = rank > best_rank
            best = tf.where(better[:, None, None, None], candidate, best)
            return number + 1, best, tf.where(better, rank, best_rank)

        stripes = self.epsilon * _signs(draw([1, width, channels], STRIPES))
        first = self.ball.project(images + stripes, images)
        first_rank = rank_of(*value(first))
        _, best, _ = tf.while_loop(
            lambda number, *_: number < self.num_steps,
            body,
            (tf.constant(0), first, first_rank),
            parallel_iterations=1,
        )
        return best

    @property
    def passes(self) -> tuple[int, int]:
        return self.num_steps + 1, 0

    def _sizes(self, height: int, width: int) -> np.ndarray:
        """The squares' side at every query, in pixels."""
        done = np.arange(self.num_steps) / self.num_steps
        area = self.area / 2.0 ** np.searchsorted(HALVINGS, done, side="left")
        sides = np.round(np.sqrt(area * height * width))
        return np.clip(sides, 1, min(height, width)).astype(np.int32)


def _signs(uniform: tf.Tensor) -> tf.Tensor:
    return tf.where(uniform < 0.5, -1.0, 1.0)
