"""Slowdown: make samples leave late. It costs compute, not accuracy."""

from dataclasses import dataclass

import tensorflow as tf

from rdi_keras.attacks.leaving import ENOUGH, log_room
from rdi_keras.attacks.losses import cross_entropy
from rdi_keras.attacks.objectives import Objective, Part, fooled
from rdi_keras.attacks.randomness import Draw
from rdi_keras.inference.policy import EntropyPolicy


@dataclass(frozen=True)
class Slowdown(Objective):
    """Make samples leave at the last exit: `Uniform`, then `Unsure`.

    Source: Hong et al. (DeepSloth), ICLR 2021 (arXiv:2010.02432), section 4.

    Attributes:
        keep_label: whether the answer must go on being the label, so that nobody notices.
    """

    keep_label: bool = False

    def parts(self, num_exits: int, num_classes: int) -> list[Part]:
        if num_exits == 1:
            return []  # Without side exits there is nothing to slow down.
        return [Uniform(self.keep_label), Unsure(self.keep_label)]

    def reached(
        self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None, num_exits: int
    ) -> tf.Tensor:
        """It leaves at the last exit, and is right where the label is to be kept."""
        if policy is None or len(logits) < num_exits:
            return tf.zeros(tf.shape(labels), tf.bool)
        last = policy.exit_of(logits) == num_exits
        return last & ~fooled(logits, labels, policy) if self.keep_label else last

    def score(self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        """A later exit beats every loss; with the label to be kept, a right answer beats every exit."""
        if len(logits) == 1:
            return tf.zeros(tf.shape(labels))
        score = tf.sigmoid(Uniform(self.keep_label).loss(logits, labels, policy))
        if policy is None:
            return score
        score += tf.cast(policy.exit_of(logits), tf.float32)
        if self.keep_label:
            score -= len(logits) * tf.cast(fooled(logits, labels, policy), tf.float32)
        return score

    def __str__(self) -> str:
        return "slowdown_keeping_label" if self.keep_label else "slowdown"


@dataclass(frozen=True)
class Uniform(Part):
    """Push every side exit's softmax to uniform, as DeepSloth does: it needs no thresholds."""

    keep_label: bool = False

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        # The cross-entropy of the uniform distribution and the softmax, but for a constant.
        per_exit = [tf.reduce_mean(tf.nn.log_softmax(each), axis=-1) for each in logits[:-1]]
        late = tf.add_n(per_exit) / len(per_exit)
        return late - cross_entropy(logits[-1], aim) if self.keep_label else late

    def __str__(self) -> str:
        return "uniform"


@dataclass(frozen=True)
class Unsure(Part):
    """Lift every side exit's entropy above its threshold, and none further than is enough.

    Without thresholds it is `Uniform`.
    """

    keep_label: bool = False

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        if policy is None:
            return Uniform(self.keep_label).loss(logits, aim, policy)
        rooms = [log_room(each, policy.thresholds[..., k]) for k, each in enumerate(logits[:-1])]
        late = tf.add_n([tf.minimum(-room, ENOUGH) for room in rooms])
        return late - cross_entropy(logits[-1], aim) if self.keep_label else late

    def __str__(self) -> str:
        return "unsure"


@dataclass(frozen=True)
class WithSlowdown(Objective):
    """An objective that also pushes exits to be unsure: the side exits before the last one that it looks at.

    For training: a model that has seen it lets fewer samples be slowed down.

    Attributes:
        objective: the other one.
        weight: of the push.
    """

    objective: Objective
    weight: float
    clean_is_candidate = False

    def parts(self, num_exits: int, num_classes: int) -> list[Part]:
        return [PartWithSlowdown(part, self.weight) for part in self.objective.parts(num_exits, num_classes)]

    @property
    def needs_policy(self) -> bool:
        return self.objective.needs_policy

    def reached(
        self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None, num_exits: int
    ) -> tf.Tensor:
        return self.objective.reached(logits, labels, policy, num_exits)

    def score(self, logits: list[tf.Tensor], labels: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        return self.objective.score(logits, labels, policy)

    def __str__(self) -> str:
        return f"{self.objective}+slowdown({self.weight!r})"


@dataclass(frozen=True)
class PartWithSlowdown(Part):
    """A part of `WithSlowdown`; attributes likewise."""

    part: Part
    weight: float

    @property
    def needs_policy(self) -> bool:
        return self.part.needs_policy

    def depth(self, num_exits: int) -> int:
        return self.part.depth(num_exits)

    def aim(self, logits: list[tf.Tensor], labels: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.part.aim(logits, labels, draw)

    def loss(self, logits: list[tf.Tensor], aim: tf.Tensor, policy: EntropyPolicy | None) -> tf.Tensor:
        own = self.part.loss(logits, aim, policy)
        return own + self.weight * Uniform().loss(logits, aim, policy) if len(logits) > 1 else own
