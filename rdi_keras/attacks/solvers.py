"""How a loss is climbed along its gradient: one loop, and the steps that solvers take in it."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, ClassVar, Self

import tensorflow as tf

from rdi_keras.attacks.balls import BALLS, Ball, parse_radius
from rdi_keras.attacks.randomness import Draw
from rdi_keras.errors import InputError
from rdi_keras.names import parse_epsilon, parse_length

REACH = 2.5
"""The way through the ball that all steps together could go, in units of ε: default of `pgd`."""
# Maps images to `(loss [B], reached [B])`: what is climbed, and whether the attack's goal is reached.
Value = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class Solver(ABC):
    """Climbs a loss from an image, inside a ball around it.

    Attributes:
        num_steps: steps of a run.
        restarts: how often to start anew; per sample the best result is kept.
        norm: of the ball: `linf`, `l2`, or another word where there is none.
        epsilon: radius of the ball, in pixel units; where there is none, what the solver says.
    """

    num_steps: int
    restarts: int
    norm: str
    epsilon: float
    __dataclass_fields__: ClassVar[dict[str, Field]]  # Every solver is a dataclass.
    # Numbers that one compiled loop can take any value of.
    settings: tuple[str, ...] = ()

    @property
    def ball(self) -> Ball | None:
        """Where candidates may lie; `None` for all of [0, 1]."""
        return None

    @property
    def loop(self) -> tuple:
        """What a compiled loop depends on: solvers with the same `loop` can share it."""
        shared = {*self.settings, "restarts"}
        return type(self), *(getattr(self, each.name) for each in fields(self) if each.name not in shared)

    def with_settings(self, values: Sequence[tf.Tensor]) -> Self:
        """The same solver with tensors for the numbers that `settings` names."""
        changed = copy.copy(self)
        for name, value in zip(self.settings, values, strict=True):
            object.__setattr__(changed, name, value)  # Past the checks, which a tensor cannot pass.
        return changed

    @abstractmethod
    def run(self, value: Value, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        """One run, pure TensorFlow.

        Args:
            value: what to climb. A point that reaches the goal beats every one that does not; among
                equals the larger loss wins.
            images: float32 `[B, H, W, C]` in [0, 1].
            draw: the only source of randomness.

        Returns:
            Per sample the best point met, inside the ball and [0, 1].
        """

    def last(self, value: Value, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        """As `run`, but where the solver can, the last point instead of the best: quicker, for training."""
        return self.run(value, images, draw)

    # Whether `trace` gives every point.
    tells_its_way = False

    def trace(
        self, value: Value, images: tf.Tensor, draw: Draw, on_step: Callable[[], None] = lambda: None
    ) -> tf.Tensor:
        """The points of a run, `[K + 1, B, H, W, C]`; where they are not told, the images and the result.

        Args:
            value: as for `run`.
            images: likewise.
            draw: likewise.
            on_step: called before every step that is told, inside the graph.
        """
        return tf.stack([images, self.run(value, images, draw)])

    def worth(self, loss: tf.Tensor, iterate: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """What points are compared by, `[B]`."""
        return loss

    @property
    @abstractmethod
    def passes(self) -> tuple[int, int]:
        """Forward and backward passes per sample of one run."""

    def _check_counts(self) -> None:
        if self.num_steps < 1 or self.restarts < 1:
            raise InputError(
                "An attack takes at least 1 step and at least 1 restart. Received: "
                f"num_steps={self.num_steps}, restarts={self.restarts}"
            )


class GradientSolver(Solver):
    """One loop for all solvers that follow the gradient; they say where to start and how to step."""

    @abstractmethod
    def start(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        """The first iterate."""

    def memory(self, first: tf.Tensor) -> Any:
        """What the solver remembers from step to step: tensors, or a named tuple of them."""
        return ()

    @abstractmethod
    def step(
        self,
        number: tf.Tensor,
        iterate: tf.Tensor,
        loss: tf.Tensor,
        gradient: tf.Tensor,
        images: tf.Tensor,
        memory: Any,
    ) -> tuple[tf.Tensor, Any]:
        """The next iterate and memory, from step number (from 0), iterate, its loss and gradient."""

    def run(self, value: Value, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        def keep_better(
            kept: tuple, iterate: tf.Tensor, loss: tf.Tensor, reached: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            best, best_rank = kept
            rank = rank_of(self.worth(loss, iterate, images), reached)
            better = rank > best_rank
            return tf.where(better[:, None, None, None], iterate, best), tf.where(better, rank, best_rank)

        last, kept = self._walk(value, images, draw, (images, no_rank(images)), keep_better)
        return keep_better(kept, last, *value(last))[0]

    def last(self, value: Value, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self._walk(value, images, draw, (), lambda kept, *_: kept)[0]

    tells_its_way = True

    def trace(
        self, value: Value, images: tf.Tensor, draw: Draw, on_step: Callable[[], None] = lambda: None
    ) -> tf.Tensor:
        def record(
            points: tf.TensorArray, iterate: tf.Tensor, loss: tf.Tensor, reached: tf.Tensor
        ) -> tf.TensorArray:
            on_step()
            return points.write(points.size(), iterate)

        points = tf.TensorArray(tf.float32, 0, dynamic_size=True, element_shape=images.shape)
        last, points = self._walk(value, images, draw, points, record)
        return points.write(points.size(), last).stack()

    def _walk(self, value: Value, images: tf.Tensor, draw: Draw, kept: Any, keep: Callable) -> tuple:
        """The last iterate, and what `keep(kept, iterate, loss, reached)` made of those before it."""

        def body(number: tf.Tensor, iterate: tf.Tensor, memory: Any, kept: Any) -> tuple:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(iterate)
                loss, reached = value(iterate)
            # A network that lets no gradient through, or none that is a number, is attacked all the same.
            gradient = tape.gradient(loss, iterate, unconnected_gradients="zero")
            gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
            kept = keep(kept, iterate, loss, reached)
            iterate, memory = self.step(number, iterate, loss, gradient, images, memory)
            return number + 1, iterate, memory, kept

        first = self.start(images, draw)
        _, last, _, kept = tf.while_loop(
            lambda number, *_: number < self.num_steps,
            body,
            (tf.constant(0), first, self.memory(first), kept),
            parallel_iterations=1,
        )
        return last, kept

    @property
    def passes(self) -> tuple[int, int]:
        return self.num_steps + 1, self.num_steps


@dataclass(frozen=True)
class PGD(GradientSolver):
    """Projected gradient ascent along the steepest direction. Source: Madry et al., ICLR 2018.

    Attributes:
        epsilon: radius of the ball, in pixel units (images lie in [0, 1]).
        num_steps: gradient steps.
        step_size: length of a step, in pixel units.
        random_start: whether to start at a random point of the ball.
        restarts: how often to start anew; per sample the best result is kept.
        norm: `linf` or `l2`.
        momentum: μ, how much of the old direction stays (MI-FGSM); the gradients that add up are
            scaled to a mean size of 1 per pixel. Source: Dong et al., CVPR 2018.
    """

    epsilon: float
    num_steps: int
    step_size: float
    random_start: bool = True
    restarts: int = 1
    norm: str = "linf"
    momentum: float = 0.0
    settings = ("epsilon", "num_steps", "step_size")

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", parse_radius(self.norm, self.epsilon))
        object.__setattr__(self, "step_size", parse_length(self.step_size, "step_size"))
        if self.momentum < 0:
            raise InputError(f"momentum must be at least 0. Received: {self.momentum}")
        self._check_counts()

    @property
    def ball(self) -> Ball:
        return BALLS[self.norm](self.epsilon)

    def start(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.ball.random_point(images, draw) if self.random_start else images

    def memory(self, first: tf.Tensor) -> tf.Tensor | tuple:
        return tf.zeros_like(first) if self.momentum else ()

    def step(
        self,
        number: tf.Tensor,
        iterate: tf.Tensor,
        loss: tf.Tensor,
        gradient: tf.Tensor,
        images: tf.Tensor,
        memory: Any,
    ) -> tuple[tf.Tensor, Any]:
        if self.momentum:
            size = tf.reduce_mean(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
            memory = self.momentum * memory + tf.math.divide_no_nan(gradient, size)
            gradient = memory
        return self.ball.project(iterate + self.step_size * self.ball.steepest(gradient), images), memory


def pgd(epsilon: float | str, num_steps: int, restarts: int = 1, norm: str = "linf") -> PGD:
    """PGD from random starts, with steps that together could go 2.5 times the radius."""
    radius = parse_radius(norm, epsilon)
    return PGD(radius, num_steps, REACH * radius / num_steps, restarts=restarts, norm=norm)


def fgsm(epsilon: float | str) -> PGD:
    """One full step from the image itself. Source: Goodfellow et al., ICLR 2015."""
    radius = parse_epsilon(epsilon)
    return PGD(radius, num_steps=1, step_size=radius, random_start=False)


def mi_fgsm(epsilon: float | str, num_steps: int = 10) -> PGD:
    """Momentum iterative FGSM from the image itself, μ = 1. Source: Dong et al., CVPR 2018, section 3."""
    radius = parse_epsilon(epsilon)
    return PGD(radius, num_steps, radius / num_steps, random_start=False, momentum=1.0)


@dataclass(frozen=True)
class NFGSM(GradientSolver):
    """One full step from noise that may be wider than the ball, for training: what it finds may lie outside.

    Source: de Jorge et al., NeurIPS 2022 (arXiv:2202.01181), section 4.

    Attributes:
        epsilon: length of the step, in pixel units.
        noise: largest size of the noise, in units of epsilon.
    """

    epsilon: float
    noise: float = 2.0
    num_steps, restarts, norm = 1, 1, "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", parse_epsilon(self.epsilon))

    def start(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        noise = 2 * draw(images.shape[1:], 0) - 1
        return tf.clip_by_value(images + self.noise * self.epsilon * noise, 0.0, 1.0)

    def step(
        self,
        number: tf.Tensor,
        iterate: tf.Tensor,
        loss: tf.Tensor,
        gradient: tf.Tensor,
        images: tf.Tensor,
        memory: Any,
    ) -> tuple[tf.Tensor, Any]:
        return tf.clip_by_value(iterate + self.epsilon * tf.sign(gradient), 0.0, 1.0), memory


def no_rank(images: tf.Tensor) -> tf.Tensor:
    """A rank per sample, float64 `[B]`, that every point beats."""
    return tf.fill(tf.shape(images)[:1], tf.constant(tf.float64.min, tf.float64))


def rank_of(loss: tf.Tensor, reached: tf.Tensor) -> tf.Tensor:
    """Orders candidates: those that reach the goal first, then by loss. float64 `[B]`.

    A loss that is no number is the least of its kind.
    """
    # The arctangent rises and stays within ±π/2, so no loss makes up for 4. In float64 it tells
    # neighbouring float32 losses apart, unless they are very small or very large (1e-7, 1e7).
    loss = tf.cast(loss, tf.float64)
    loss = tf.where(tf.math.is_nan(loss), tf.constant(-math.inf, tf.float64), loss)
    return tf.atan(loss) + 4.0 * tf.cast(reached, tf.float64)
