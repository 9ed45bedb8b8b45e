"""An attack: any objective, climbed by any solver, on any network with exits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf
from numpy.typing import ArrayLike

from rdi_keras.attacks.objectives import Objective, Part
from rdi_keras.attacks.solvers import PGD, ascend, rank_of
from rdi_keras.checks import check_images, check_labels, check_thresholds
from rdi_keras.errors import InputError
from rdi_keras.inference.policy import EntropyPolicy


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
    where a policy is given, one that makes the adaptive answer wrong; then the one with the largest
    score of the objective. Without a policy the score alone decides, as in the paper's training.

    Example:

    >>> attack = Attack(objective("exit_aware"), PGD("8/255", num_steps=20, step_size=2 / 255))
    >>> adversarial = attack(model, images, labels, thresholds, seed=0)
    """

    objective: Objective
    solver: PGD

    def __str__(self):
        return f"{self.objective} {self.solver}"

    def passes(self, num_exits: int, num_classes: int) -> tuple[int, int]:
        """Forward and backward passes per sample (whole or up to the exit that a part needs)."""
        parts = len(self.objective.parts(num_exits, num_classes))
        runs = parts * self.solver.restarts
        # Per run: the steps, the last iterate's value, and the result's score on all exits. Once:
        # the clean image, on which targets are chosen.
        return runs * (self.solver.num_steps + 2) + 1, runs * self.solver.num_steps

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
            float32 `[B, H, W, C]`, ‖δ‖∞ ≤ ε, inside [0, 1].
        """

        def run(part, classes, part_seed):
            return self.climb(network, part, images, labels, classes, part_seed, policy)

        return self.search(network, images, labels, seed, policy, run)

    def search(
        self,
        network: ExitNetwork,
        images: tf.Tensor,
        labels: tf.Tensor,
        seed: tf.Tensor,
        policy: EntropyPolicy | None,
        run: Callable[[Part, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    ) -> tf.Tensor:
        """Keeps per sample the best of all parts and restarts; `run` makes one candidate.

        The clean image is a candidate too, so that an attack never mends what was wrong before.
        """
        clean_logits = network.logits(images)
        best, best_rank = images, self._rank(clean_logits, labels, policy)
        fold_in = tf.random.experimental.stateless_fold_in
        for index, part in enumerate(self.objective.parts(network.num_exits, network.num_classes)):
            classes = part.classes(clean_logits[: part.depth(network.num_exits)], labels)
            for restart in range(self.solver.restarts):
                part_seed = fold_in(fold_in(seed, index), restart)
                candidate, rank = run(part, classes, part_seed)
                better = rank > best_rank
                best = tf.where(better[:, None, None, None], candidate, best)
                best_rank = tf.where(better, rank, best_rank)
        return best

    def climb(
        self,
        network: ExitNetwork,
        part: Part,
        images: tf.Tensor,
        labels: tf.Tensor,
        classes: tf.Tensor,
        seed: tf.Tensor,
        policy: EntropyPolicy | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One run of the loop for one part: `(candidate, rank among candidates)`."""
        depth = part.depth(network.num_exits)

        def value(iterate):
            logits = network.logits(iterate, depth)
            return part.loss(logits, classes, policy), fooled(logits, labels, policy)

        candidate = ascend(self.solver, value, images, seed)
        return candidate, self._rank(network.logits(candidate), labels, policy)

    def _rank(self, logits: list, labels, policy):
        score = self.objective.score(logits, labels, policy)
        return rank_of(score, fooled(logits, labels, policy))

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

    Args:
        attack: objective and solver.
        network: the network under attack.
    """

    def __init__(self, attack: Attack, network: ExitNetwork):
        attack.check_fits(network)
        self.attack = attack
        self.network = network
        self._climbs = {}

    def __call__(
        self, images: ArrayLike, labels: ArrayLike, thresholds: ArrayLike | None = None, seed: int = 0
    ) -> tf.Tensor:
        """Attacks a batch.

        Args:
            images: float32 `[B, H, W, C]` in [0, 1].
            labels: integers `[B]`.
            thresholds: entropies in nats `[N-1]`, as known to the attacker; `None` if unknown.
            seed: the same seed gives the same result.

        Returns:
            float32 `[B, H, W, C]`, ‖δ‖∞ ≤ ε, inside [0, 1].

        Raises:
            InputError: if images, labels or thresholds do not fit the network, or the objective needs
                thresholds and there are none.
        """
        if thresholds is None and self.attack.objective.needs_policy:
            raise InputError(
                f"The objective {self.attack.objective} needs the thresholds, which say where a "
                "sample leaves. Received: none"
            )
        images = tf.constant(check_images(images))
        labels = tf.constant(check_labels(labels, len(images), self.network.num_classes))
        known = (
            [] if thresholds is None else [tf.constant(check_thresholds(thresholds, self.network.num_exits))]
        )
        policy = EntropyPolicy(*known) if known else None

        def run(part, classes, part_seed):
            arguments = [images, labels, classes, part_seed, *known]
            return self._compiled(part, arguments)(*arguments)

        seed = tf.constant([seed, 0], tf.int64)
        return self.attack.search(self.network, images, labels, seed, policy, run)

    def _compiled(self, part: Part, arguments: list[tf.Tensor]):
        """The part's loop for any batch size, compiled for arguments of these shapes."""
        per_sample, per_call = arguments[:3], arguments[3:]
        specs = [tf.TensorSpec([None, *each.shape[1:]], each.dtype) for each in per_sample]
        specs += [tf.TensorSpec(each.shape, each.dtype) for each in per_call]
        key = (part, *specs)
        if key not in self._climbs:

            def climb(images, labels, classes, seed, thresholds=None):
                known = None if thresholds is None else EntropyPolicy(thresholds)
                return self.attack.climb(self.network, part, images, labels, classes, seed, known)

            self._climbs[key] = tf.function(climb, autograph=False).get_concrete_function(*specs)
        return self._climbs[key]


def fooled(logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
    """Whether the adaptive answer is wrong, bool `[B]`, as far as the exits given tell.

    A sample that has not left at one of these exits is not counted as fooled, and no sample is
    without a policy.
    """
    if policy is None:
        return tf.zeros(tf.shape(labels), tf.bool)
    left_at = policy.exit_of(logits)
    stacked = tf.stack(logits, axis=1)
    index = tf.minimum(left_at, len(logits)) - 1
    answer = tf.argmax(tf.gather(stacked, index, axis=1, batch_dims=1), axis=-1)
    wrong = answer != tf.cast(labels, answer.dtype)
    return tf.logical_and(wrong, left_at <= len(logits))
