"""An attack: any objective, climbed by any solver, on any network with exits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from rdi_keras.attacks.objectives import Objective, Part
from rdi_keras.attacks.randomness import Draw, batch_draw, fold_in, sample_draw, sample_seeds
from rdi_keras.attacks.solvers import Solver, no_rank, rank_of
from rdi_keras.checks import check_images, check_labels, check_thresholds
from rdi_keras.errors import InputError
from rdi_keras.inference.policy import EntropyPolicy

# What is kept of a run's iterates.
BEST, LAST = "best", "last"


class ExitNetwork(Protocol):
    """What an attack needs to know of a network: a `MultiExitModel` or a `Predictor`."""

    num_exits: int
    num_classes: int

    def logits(self, images: tf.Tensor, up_to: int | None = None) -> list[tf.Tensor]:
        """Differentiable logits `[B, C]` of exits 1 … `up_to`, in inference mode."""


@dataclass(frozen=True)
class Attack:
    """What is maximised, and how.

    Per sample the best of the clean image and all iterates, parts and restarts is returned. Best is,
    where a policy is given, one that reaches the objective's goal, which for most is a wrong adaptive
    answer; then the one with the largest score of the objective. Without a policy the score alone
    decides, as in the paper's training.

    Attributes:
        objective: what is maximised.
        solver: how.
        keep: what of a run: `best`, or `last`, the last iterate, which takes fewer passes: for training.
            With one run, that of a single part without restarts, it is the result whatever it scores.

    Examples:
        >>> attack = Attack(objective("exit_aware"), pgd("8/255", num_steps=20))
        >>> adversarial = attack(model, images, labels, thresholds, seed=0)
    """

    objective: Objective
    solver: Solver
    keep: str = BEST

    def __post_init__(self) -> None:
        if self.keep not in (BEST, LAST):
            raise InputError(f"An attack keeps {BEST!r} or {LAST!r}. Received: {self.keep!r}")

    def __str__(self) -> str:
        return f"{self.objective} {self.solver}"

    def runs(self, network: ExitNetwork) -> list[tuple[Part, int]]:
        """Every part with every restart, in the order in which they are run."""
        parts = self.objective.parts(network.num_exits, network.num_classes)
        return [(part, restart) for part in parts for restart in range(self.solver.restarts)]

    def most_passes(self, network: ExitNetwork) -> tuple[int, int]:
        """Forward and backward passes for a sample that is never brought to the goal."""
        forward, backward = self.solver.passes
        runs = len(self.runs(network))
        return 1 + runs * (forward + 1), runs * backward

    def check_fits(self, network: ExitNetwork) -> None:
        """Raises `InputError` if the objective names an exit that the network does not have."""
        for part in self.objective.parts(network.num_exits, network.num_classes):
            part.depth(network.num_exits)

    def perturb(
        self,
        network: ExitNetwork,
        images: tf.Tensor,
        labels: tf.Tensor,
        seed: tf.Tensor,
        policy: EntropyPolicy | None = None,
    ) -> tf.Tensor:
        """Attacks a batch; pure TensorFlow, for use inside a graph such as a training step.

        Args:
            network: runs in inference mode, so BatchNorm statistics stay as they are.
            images: float32 `[B, H, W, C]` in [0, 1].
            labels: integers `[B]`, the right classes.
            seed: integer tensor `[2]`.
            policy: where samples leave, if the attacker knows it.

        Returns:
            float32 `[B, H, W, C]`, inside the solver's ball and [0, 1].
        """
        clean_logits = network.logits(images)
        # The clean image is a candidate too, so that an attack never mends what was wrong before.
        best, best_rank = images, self.rank(network, clean_logits, labels, policy)
        if not self.objective.clean_is_candidate:
            best_rank = no_rank(images)
        runs = self.runs(network)
        for number, (part, _) in enumerate(runs):
            draw = batch_draw(fold_in(seed, number), tf.shape(images)[0])
            aim = part.aim(clean_logits[: part.depth(network.num_exits)], labels, draw)
            candidate = self.climb(network, part, self.solver, images, labels, aim, draw, policy)
            if self.keep == LAST and len(runs) == 1:
                return candidate
            rank = self.rank(network, network.logits(candidate), labels, policy)
            better = rank > best_rank
            best = tf.where(better[:, None, None, None], candidate, best)
            best_rank = tf.where(better, rank, best_rank)
        return best

    def climb(
        self,
        network: ExitNetwork,
        part: Part,
        solver: Solver,
        images: tf.Tensor,
        labels: tf.Tensor,
        aim: tf.Tensor,
        draw: Draw,
        policy: EntropyPolicy | None,
    ) -> tf.Tensor:
        """One run of the solver for one part; arguments as for `perturb`."""
        depth = part.depth(network.num_exits)

        def value(iterate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits = network.logits(iterate, depth)
            reached = self.objective.reached(logits, labels, policy, network.num_exits)
            return part.loss(logits, aim, policy), reached

        return (solver.last if self.keep == LAST else solver.run)(value, images, draw)

    def rank(
        self,
        network: ExitNetwork,
        logits: list[tf.Tensor],
        labels: tf.Tensor,
        policy: EntropyPolicy | None,
    ) -> tf.Tensor:
        """What candidates are compared by, from all exits' logits: float64 `[B]`."""
        reached = self.objective.reached(logits, labels, policy, network.num_exits)
        return rank_of(self.objective.score(logits, labels, policy), reached)

    def __call__(
        self,
        network: ExitNetwork,
        images: ArrayLike,
        labels: ArrayLike,
        thresholds: ArrayLike | None = None,
        seed: int = 0,
    ) -> tf.Tensor:
        """Attacks a batch once. To attack many, keep a `CompiledAttack`: it compiles once."""
        return CompiledAttack(self, network)(images, labels, thresholds, seed)


class CompiledAttack:
    """An attack bound to a network; its loops are compiled at their first use.

    A sample on which the goal is reached is left alone by the parts and restarts that follow. So an attack
    on a weak network costs far less than one on a robust network.

    Args:
        attack: objective and solver.
        network: the network under attack.
        loops: where compiled loops are kept. Attacks on the same network may share it: those that differ
            in ε, or in PGD's steps, alone then compile once.

    Attributes:
        forward: passes through the network so far, summed over samples; a pass that ends at an early exit
            counts as one.
        backward: the same of backward passes.
    """

    def __init__(self, attack: Attack, network: ExitNetwork, loops: dict | None = None):
        attack.check_fits(network)
        self.attack = attack
        self.network = network
        self.forward = self.backward = 0
        self._loops = {} if loops is None else loops

    def __call__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        thresholds: ArrayLike | None = None,
        seed: int | Sequence[int] = 0,
        samples: ArrayLike | None = None,
    ) -> tf.Tensor:
        """Attacks a batch.

        Args:
            images: float32 `[B, H, W, C]` in [0, 1].
            labels: integers `[B]`.
            thresholds: entropies in nats `[N-1]`, as known to the attacker; `None` if unknown.
            seed: one or several numbers; the same seed gives the same result.
            samples: integers `[B]`, each sample's number in its data set, default 0 … B-1. What is drawn
                for a sample depends on the seed and this number, not on its batch.

        Returns:
            float32 `[B, H, W, C]`, inside the solver's ball and [0, 1].

        Raises:
            InputError: if images, labels or thresholds do not fit the network, or the objective needs
                thresholds and there are none.
        """
        if thresholds is None and self.attack.objective.needs_policy:
            raise InputError(
                f"The objective {self.attack.objective} needs the thresholds, which say where a "
                "sample leaves. Received: none"
            )
        images = check_images(images)
        labels = check_labels(labels, len(images), self.network.num_classes)
        samples = np.arange(len(images)) if samples is None else np.asarray(samples)
        known = [] if thresholds is None else [check_thresholds(thresholds, self.network.num_exits)]
        solver, settings = self.attack.solver, self._settings()
        path = np.atleast_1d(seed).tolist()

        best = images.copy()
        clean, best_rank, reached = self._call(self._judge, (), [images, labels], known)
        self.forward += len(images)
        for number, (part, _) in enumerate(self.attack.runs(self.network)):
            standing = np.flatnonzero(~reached)
            if not len(standing):
                break
            seeds = sample_seeds(samples[standing], *path, number)
            # Here and not in the compiled loop, which all parts that differ in their aim alone share.
            on_the_way = [clean[standing, each] for each in range(part.depth(self.network.num_exits))]
            aim = part.aim(
                list(map(tf.constant, on_the_way)), tf.constant(labels[standing]), sample_draw(seeds)
            )
            inputs = [images[standing], labels[standing], np.asarray(aim), seeds]
            candidate, rank, now_reached = self._call(
                self._climb_of(part), (part, solver.loop), inputs, [*settings, *known]
            )
            better = rank > best_rank[standing]
            where = standing[better]
            best[where], best_rank[where], reached[where] = (
                candidate[better],
                rank[better],
                now_reached[better],
            )
            self._count(len(standing))
        return tf.constant(best)

    def _settings(self) -> list[np.ndarray]:
        """The solver's numbers, which a compiled loop is given."""
        solver = self.attack.solver
        settings = [np.asarray(getattr(solver, name)) for name in solver.settings]
        return [each.astype(np.float32 if each.dtype.kind == "f" else np.int32) for each in settings]

    def _count(self, num_samples: int) -> None:
        forward, backward = self.attack.solver.passes
        self.forward += num_samples * (forward + 1)  # One more, to judge the result.
        self.backward += num_samples * backward

    def _judge(
        self, images: tf.Tensor, labels: tf.Tensor, thresholds: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        policy = None if thresholds is None else EntropyPolicy(thresholds)
        logits = self.network.logits(images)
        rank = self.attack.rank(self.network, logits, labels, policy)
        reached = self.attack.objective.reached(logits, labels, policy, self.network.num_exits)
        return tf.stack(logits, axis=1), rank, reached

    def _climb_of(self, part: Part) -> Callable[..., tuple]:
        solver = self.attack.solver

        def climb(
            images: tf.Tensor, labels: tf.Tensor, aim: tf.Tensor, seeds: tf.Tensor, *known: tf.Tensor
        ) -> tuple:
            settings, thresholds = known[: len(solver.settings)], known[len(solver.settings) :]
            policy = EntropyPolicy(*thresholds) if thresholds else None
            tuned, draw = solver.with_settings(settings), sample_draw(seeds)
            candidate = self.attack.climb(self.network, part, tuned, images, labels, aim, draw, policy)
            return candidate, *self._judge(candidate, labels, *thresholds)[1:]

        return climb

    def _call(
        self,
        function: Callable[..., tuple],
        key: tuple,
        per_sample: list[np.ndarray],
        known: list[np.ndarray],
    ) -> list[Any]:
        """Runs a function that was compiled, at its first use, for batches of any size."""
        shapes = [(each.shape[1:], each.dtype) for each in per_sample] + [each.shape for each in known]
        key = (self.attack.objective, *key, *shapes)
        if key not in self._loops:
            specs = [tf.TensorSpec([None, *each.shape[1:]], each.dtype) for each in per_sample]
            specs += [tf.TensorSpec(each.shape, each.dtype) for each in known]
            self._loops[key] = tf.function(function, autograph=False).get_concrete_function(*specs)
        given = map(tf.constant, (*per_sample, *known))
        return [each.numpy() for each in self._loops[key](*given)]
