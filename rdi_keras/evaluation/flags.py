"""Signs that a robustness figure is not to be believed, each looked for by a check of its own.

Source: Carlini et al. 2019 (arXiv:1902.06705), sections 4 and 5; Croce et al., ICML 2022, appendix
(AutoAttack's checks).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import tensorflow as tf

from rdi_keras.attacks import (
    PGD,
    REACH,
    Attack,
    CompiledAttack,
    ExitNetwork,
    Solver,
    cross_entropy,
    objective,
    pgd,
)
from rdi_keras.data import Split
from rdi_keras.evaluation.cascade import WORST_CASE, Conditions
from rdi_keras.evaluation.outcome import judge
from rdi_keras.inference import EntropyPolicy

# A figure that moves by more than this is not to be believed.
POINT = 0.01
# Samples that a check looks at, at most.
SAMPLES = 100
# The steps of the longer attacks, and the radius that leaves nothing of an image.
LONG, EVERYTHING = 100, 1.0
BLACK_BOX = "square"
# Fewer broken samples than this are chance, whatever share they are.
AT_LEAST = 2
# In the place of an attack's number in its seed; a suite's attacks count from 0.
PROBE = 1_000_000


@dataclass(frozen=True)
class Flag:
    """A sign that something is wrong with a figure.

    Attributes:
        name: of the check.
        value: what was measured, a share of the samples.
        message: what that means, for people.
    """

    name: str
    value: float
    message: str


def find_flags(
    network: ExitNetwork,
    thresholds: np.ndarray,
    data: Split,
    epsilon: float,
    conditions: Conditions,
    twin: ExitNetwork | None = None,
    seed: int = 0,
    loops: dict | None = None,
) -> tuple[list[dict], list[str]]:
    """Looks for all signs.

    Args:
        network: that was evaluated.
        thresholds: `[N-1]` in nats.
        data: the samples that it was evaluated on.
        epsilon: radius of the L∞ ball, in pixel units.
        conditions: what the suite did.
        twin: the one-exit twin, if there is one; attacks on it are tried on the network.
        seed: of the attacks that the checks run.
        loops: see `CompiledAttack`, of the network.

    Returns:
        The flags, as dictionaries with `name`, `value`, `message`; and the names of the checks that could not
        be made. No flags and no such names are good news.
    """
    loops = {} if loops is None else loops
    thresholds = np.asarray(thresholds, np.float32)
    probe = _Probe(network, thresholds, data, epsilon, conditions, twin, seed, loops)
    needs = {
        black_box_wins: probe.black_boxes,
        more_steps_win: len(probe.standing),
        transfer_wins: twin is not None and len(probe.standing),
    }
    left_out = [check for check, has in needs.items() if not has]
    found = [asdict(flag) for check in CHECKS if check not in left_out for flag in check(probe)]
    return found, [check.__name__ for check in left_out]


@dataclass(frozen=True)
class _Probe:
    network: ExitNetwork
    thresholds: np.ndarray
    data: Split
    epsilon: float
    conditions: Conditions
    twin: ExitNetwork | None
    seed: int
    loops: dict

    @property
    def few(self) -> Split:
        return self.data.first(SAMPLES)

    @property
    def standing(self) -> Split:
        """Samples that the suite left right."""
        return self.data.take(np.flatnonzero(self.conditions.outcomes[WORST_CASE].correct)[:SAMPLES])

    @property
    def black_boxes(self) -> list[str]:
        """The suite's attacks that see no gradient."""
        return [name for name in self.conditions.attacked if name.startswith(BLACK_BOX)]

    def share_of_all(self, num_broken: int, among: Split) -> float:
        """What so many broken samples among the standing ones mean for the share of all samples."""
        standing = self.conditions.outcomes[WORST_CASE].correct.mean()
        return float(num_broken / max(len(among), 1) * standing)

    def broken(self, images: np.ndarray, samples: Split) -> int:
        return int((~judge(self.network, images, samples.labels, self.thresholds).correct).sum())

    def left_by(self, samples: Split, objectives: Sequence[str], solver: Solver) -> Split:
        """The samples that are right under every one of these attacks, whose seed no suite uses."""
        for name in objectives:
            if not len(samples):
                break
            attack = CompiledAttack(Attack(objective(name), solver), self.network, self.loops)
            images = attack(samples.images, samples.labels, self.thresholds, (self.seed, PROBE))
            right = judge(self.network, images.numpy(), samples.labels, self.thresholds).correct
            samples = samples.take(np.flatnonzero(right))
        return samples


def random_outputs(probe: _Probe) -> Iterator[Flag]:
    """The same images twice must give the same logits."""
    images = tf.constant(probe.few.images)
    first, second = probe.network.logits(images), probe.network.logits(images)
    # Summed in another order, the same logits may differ in their last digits.
    differ = [
        np.any(~np.isclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True), axis=-1)
        for a, b in zip(first, second, strict=True)
    ]
    if (share := float(np.any(differ, axis=0).mean())) > 0:
        yield Flag(
            "random_outputs",
            share,
            "The same image gives other logits the second time. A gradient of one draw misleads the attacks: "
            "average over many draws before believing this figure",
        )


def probabilities_for_logits(probe: _Probe) -> Iterator[Flag]:
    """Outputs that are all within [0, 1] and add up to 1 are probabilities."""
    for number, each in enumerate(probe.network.logits(tf.constant(probe.few.images)), start=1):
        each = np.asarray(each)
        if (each >= 0).all() and (each <= 1).all() and np.allclose(each.sum(axis=-1), 1, atol=1e-3):
            yield Flag(
                "probabilities_for_logits",
                1.0,
                f"Exit {number} gives probabilities where logits are expected, which hides gradients. "
                "Remove its softmax",
            )


def zero_gradients(probe: _Probe) -> Iterator[Flag]:
    """The loss of the answering exit must depend on the image."""
    images, labels = tf.constant(probe.few.images), tf.constant(probe.few.labels)
    with tf.GradientTape() as tape:
        tape.watch(images)
        answers, _ = EntropyPolicy(probe.thresholds).answer(probe.network.logits(images))
        loss = cross_entropy(answers, labels)
    gradient = tape.gradient(loss, images, unconnected_gradients="zero")
    tells_nothing = (gradient == 0) | ~tf.math.is_finite(gradient)
    is_zero = tf.reduce_all(tells_nothing, axis=(1, 2, 3)).numpy()
    if (share := float(is_zero.mean())) > POINT:
        yield Flag(
            "zero_gradients",
            share,
            f"The loss has no gradient at {100 * share:.1f} % of the images, so that gradient attacks see "
            "nothing there. Something in the model saturates or rounds",
        )


def black_box_wins(probe: _Probe) -> Iterator[Flag]:
    """Without gradients one must not find what the gradient attacks missed."""
    conditions = probe.conditions
    num_broken = sum(
        conditions.attacked[name] - int(conditions.outcomes[name].correct.sum()) for name in probe.black_boxes
    )
    share = num_broken / len(probe.data)
    if share > POINT and num_broken >= AT_LEAST:
        yield Flag(
            "black_box_wins",
            share,
            f"The black-box attack broke {100 * share:.1f} % of the samples that all gradient attacks before "
            "it had left standing: gradients are masked, and other attacks may find more",
        )


def more_steps_win(probe: _Probe) -> Iterator[Flag]:
    """More steps from another start must not break what is left."""
    standing, solver = probe.standing, pgd(probe.epsilon, LONG, restarts=2)
    remaining = probe.left_by(standing, ("exit_aware", "average", "soft_exit"), solver)
    num_broken = len(standing) - len(remaining)
    share = probe.share_of_all(num_broken, standing)
    if share > POINT and num_broken >= AT_LEAST:
        yield Flag(
            "more_steps_win",
            share,
            f"{LONG} steps from two other starts break {100 * share:.1f} % of all samples beyond what the "
            "suite broke: use a larger suite",
        )


def large_epsilon_fails(probe: _Probe) -> Iterator[Flag]:
    """Where every image is within reach, no sample can be right under attack."""
    # From the image itself: random starts alone would break most samples, gradients or not.
    solver = PGD(EVERYTHING, 40, REACH * EVERYTHING / 40, random_start=False)
    remaining = probe.left_by(probe.few, ("exit_aware", "average", "targeted_exit(2)"), solver)
    share = len(remaining) / len(probe.few)
    if share > POINT:
        yield Flag(
            "large_epsilon_fails",
            share,
            f"With ε = 1, where any image may become any other, {100 * share:.1f} % of the samples are still "
            "right: the attacks are failing, not the images",
        )


def transfer_wins(probe: _Probe) -> Iterator[Flag]:
    """What fools the one-exit twin must not fool the network where attacks on itself did not."""
    assert probe.twin is not None  # Else `find_flags` leaves this check out.
    standing = probe.standing
    attack = Attack(objective("main"), pgd(probe.epsilon, 40))
    # Without thresholds it goes on after the twin is fooled: the surer the twin, the likelier the transfer.
    images = attack(probe.twin, standing.images, standing.labels, seed=probe.seed).numpy()
    num_broken = probe.broken(images, standing)
    share = probe.share_of_all(num_broken, standing)
    if share > POINT and num_broken >= AT_LEAST:
        yield Flag(
            "transfer_wins",
            share,
            f"Images made to fool the one-exit twin break {100 * share:.1f} % of all samples beyond "
            "what attacks on the network itself broke: its gradients are masked",
        )


CHECKS = (
    random_outputs,
    probabilities_for_logits,
    zero_gradients,
    black_box_wins,
    more_steps_win,
    large_epsilon_fails,
    transfer_wins,
)
