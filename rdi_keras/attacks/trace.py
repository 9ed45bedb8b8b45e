"""One image's way through an attack, step by step, to look at."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from rdi_keras.attacks.attack import Attack, CompiledAttack, ExitNetwork
from rdi_keras.attacks.objectives import Part
from rdi_keras.attacks.randomness import sample_draw, sample_seeds
from rdi_keras.attacks.solvers import rank_of
from rdi_keras.checks import check_images, check_labels, check_thresholds
from rdi_keras.inference.policy import EntropyPolicy


@dataclass(frozen=True)
class Trace:
    """The run of an attack that led to its result.

    Attributes:
        image: float32 `[H, W, C]`, the attack's result; the clean image, where nothing was stronger.
        iterates: float32 `[K + 1, H, W, C]`: where the run started, and where it stood after each of K
            steps. A solver that does not tell its way has two: the clean image and its result.
        logits: float32 `[K + 1, N, C]`, every exit's, of the iterates.
        best: which iterate is the result; `None` where the clean image is.
        part: which part of the objective this run maximised.
        runs: how many parts and restarts were run, of `planned`.
        planned: how many there are; they end at the first that reaches the goal.
        reached: whether the result reaches the objective's goal.
        told: whether the solver told its way.
    """

    image: np.ndarray
    iterates: np.ndarray
    logits: np.ndarray
    best: int | None
    part: str
    runs: int
    planned: int
    reached: bool
    told: bool


class AttackStoppedError(Exception):
    """Somebody asked for it."""


class _Control:
    """What a compiled loop looks at, and counts in, at every step."""

    def __init__(self) -> None:
        self.steps = tf.Variable(0, trainable=False, dtype=tf.int64)
        self.stopped = tf.Variable(False, trainable=False)

    def on_step(self) -> None:
        self.steps.assign_add(1)
        tf.debugging.Assert(tf.logical_not(self.stopped), ["stopped"])


class TracedAttack(CompiledAttack):
    """An attack on one image at a time that tells its way; the result is that of the `CompiledAttack`.

    Other threads may read `steps` and call `stop` while it runs. Attacks that share `loops` share these two
    as well: let one run at a time.
    """

    @property
    def steps(self) -> int:
        """Steps since the attack was begun, in all of its runs."""
        return int(self._control.steps)

    def stop(self) -> None:
        """Ends the attack that runs at its next step."""
        self._control.stopped.assign(True)

    def __init__(self, attack: Attack, network: ExitNetwork, loops: dict | None = None):
        super().__init__(attack, network, loops)
        if "control" not in self._loops:
            self._loops["control"] = _Control()
        self._control: _Control = self._loops["control"]

    def trace(
        self,
        image: ArrayLike,
        label: int,
        thresholds: ArrayLike,
        seed: int = 0,
        on_run: Callable[[int, int], None] = lambda done, planned: None,
    ) -> Trace:
        """Attacks one image.

        Args:
            image: float32 `[H, W, C]` in [0, 1].
            label: its right class.
            thresholds: entropies in nats `[N-1]`, which the attacker knows.
            seed: the same seed gives the same result.
            on_run: called with the number of finished runs and of all, before the first and after each.

        Raises:
            AttackStoppedError: after `stop`.
            InputError: if image, label or thresholds do not fit the network.
        """
        self._control.steps.assign(0)
        self._control.stopped.assign(False)
        image = check_images(np.asarray(image)[None])
        labels = check_labels([label], 1, self.network.num_classes)
        known = [*self._settings(), check_thresholds(thresholds, self.network.num_exits)]
        clean, clean_rank, reached = self._call(self._judge, (), [image, labels], known[-1:])
        runs = self.attack.runs(self.network)
        best_rank, number = -np.inf, 0
        kept: tuple[Part, np.ndarray, np.ndarray, int] | None = None
        on_run(0, len(runs))
        while number < len(runs) and not reached[0]:
            if self._control.stopped:
                raise AttackStoppedError
            part = runs[number][0]
            seeds = sample_seeds(np.arange(1), seed, number)
            on_the_way = [tf.constant(clean[:, each]) for each in range(part.depth(self.network.num_exits))]
            aim = np.asarray(part.aim(on_the_way, tf.constant(labels), sample_draw(seeds)))
            inputs = [image, labels, aim, seeds]
            key = (part, self.attack.solver.loop, "trace")
            try:
                found = self._call(self._trace_of(part), key, inputs, known)
            except tf.errors.InvalidArgumentError:
                if not self._control.stopped:
                    raise
                raise AttackStoppedError from None
            iterates, logits, best, rank, reached = found
            if rank[0] > best_rank:
                best_rank, kept = rank[0], (part, iterates, logits, int(best))
            number += 1
            self._count(1)
            on_run(number, len(runs))
        told = self.attack.solver.tells_its_way
        if kept is None:  # The clean image reaches the goal, or there is nothing to run.
            return Trace(image[0], image, clean, None, "", 0, len(runs), bool(reached[0]), told)
        part, iterates, logits, best = kept
        stronger = best_rank > clean_rank[0]
        result, chosen = (iterates[best], best) if stronger else (image[0], None)
        return Trace(result, iterates, logits, chosen, str(part), number, len(runs), bool(reached[0]), told)

    def _trace_of(self, part: Part) -> Callable[..., tuple]:
        objective, network = self.attack.objective, self.network
        depth, control = part.depth(network.num_exits), self._control

        def trace(
            images: tf.Tensor, labels: tf.Tensor, aim: tf.Tensor, seeds: tf.Tensor, *known: tf.Tensor
        ) -> tuple:
            *settings, thresholds = known
            policy, solver = EntropyPolicy(thresholds), self.attack.solver.with_settings(settings)

            def value(iterates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                many = tf.shape(iterates)[0]
                logits = network.logits(iterates, depth)
                reached = objective.reached(logits, tf.repeat(labels, many), policy, network.num_exits)
                return part.loss(logits, tf.repeat(aim, many, axis=0), policy), reached

            iterates = solver.trace(value, images, sample_draw(seeds), control.on_step)[:, 0]
            loss, reached = value(iterates)
            best = tf.argmax(rank_of(solver.worth(loss, iterates, images), reached))
            logits, rank, reached = self._judge(
                iterates, tf.repeat(labels, tf.shape(iterates)[0]), thresholds
            )
            return iterates, logits, best, rank[best, None], reached[best, None]

        return trace
