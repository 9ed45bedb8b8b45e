"""Each sign of a figure not to be believed shows on a network made to show it, and on no sound one."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_keras.attacks import Attack, Square, objective, pgd
from rdi_keras.evaluation import STANDING, Entry, find_flags, run_suite
from rdi_keras.evaluation import flags as checks

EPSILON = 0.1
QUICK = [Entry("exit_aware", Attack(objective("exit_aware"), pgd(EPSILON, 10)))]
WITH_SQUARE = [
    *QUICK,
    Entry("square", Attack(objective("exit_aware_margin"), Square(EPSILON, 300)), STANDING),
]


class Wrapped:
    """A network whose logits are changed on the way out."""

    def __init__(self, model, change):
        self.model, self.change = model, change
        self.num_exits, self.num_classes = model.num_exits, model.num_classes

    def logits(self, images, up_to=None):
        return [self.change(each) for each in self.model.logits(images, up_to)]


def flags_of(network, thresholds, samples, entries=QUICK, only=None, **options):
    """By all checks, or by `only` one: the attacks of the others take a while to compile."""
    loops = {}
    conditions = run_suite(network, thresholds, samples, entries, loops=loops)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "CHECKS", [each for each in checks.CHECKS if only in (None, each)])
        found, left_out = find_flags(
            network, thresholds, samples, EPSILON, conditions, loops=loops, **options
        )
    assert ("black_box_wins" in left_out) == (entries is not WITH_SQUARE)
    assert ("transfer_wins" in left_out) == (not options)
    return {each["name"]: each for each in found}, conditions


@pytest.fixture(scope="module")
def thresholds(digits):
    return digits[0].thresholds.numpy()


def test_a_sound_network_raises_none(digits, few, thresholds):
    # With itself for a twin: what transfers, attacks on itself find too.
    model, _ = digits
    more = [
        Entry("targeted_exit(2)", Attack(objective("targeted_exit(2)"), pgd(EPSILON, 20)), STANDING),
        Entry("average", Attack(objective("average"), pgd(EPSILON, 40)), STANDING),
    ]
    found, _ = flags_of(model, thresholds, few.first(30), [*QUICK, *more], twin=model)
    assert found == {}


def test_a_layer_that_rounds_is_caught(digits, few, thresholds):
    """Gradient masking on purpose: logits are rounded, so that no gradient comes through."""
    model, _ = digits
    masked = Wrapped(model, lambda logits: tf.round(4 * logits) / 4)
    found, conditions = flags_of(masked, thresholds, few, WITH_SQUARE, twin=model)
    assert found["zero_gradients"]["value"] == 1.0
    assert "no gradient at 100.0 %" in found["zero_gradients"]["message"]
    assert found["black_box_wins"]["value"] > 0.01
    assert found["transfer_wins"]["value"] > 0.01
    assert found["large_epsilon_fails"]["value"] > 0.01
    assert conditions.outcomes["worst_case"].correct.mean() < conditions.outcomes["clean"].correct.mean()


def test_a_saturating_layer_is_caught(digits, few, thresholds):
    """The best class is driven to +5 and the others to -5, where the slope of tanh is 0 in float32."""

    def saturate(logits):
        two = tf.math.top_k(logits, 2).values
        return 5 * tf.tanh(200 * (logits - tf.reduce_mean(two, axis=-1, keepdims=True)))

    network = Wrapped(digits[0], saturate)
    found, conditions = flags_of(network, thresholds, few, only=checks.zero_gradients)
    assert conditions.outcomes["clean"].correct.mean() > 0.8
    assert found["zero_gradients"]["value"] > 0.3


def test_gradients_that_are_no_numbers_are_caught_and_do_not_stop_the_attack(digits, few, thresholds):
    @tf.custom_gradient
    def spoiled(logits):
        return tf.identity(logits), lambda upstream: upstream * np.nan

    model, _ = digits
    network = Wrapped(model, spoiled)
    found, conditions = flags_of(network, thresholds, few.first(20))
    assert found["zero_gradients"]["value"] == 1.0
    assert conditions.outcomes["worst_case"].correct.mean() <= conditions.outcomes["clean"].correct.mean()


def test_random_outputs_are_caught(digits, few, thresholds):
    model, _ = digits
    noisy = Wrapped(model, lambda logits: logits + tf.random.normal(tf.shape(logits)))
    found, _ = flags_of(noisy, thresholds, few.first(20), only=checks.random_outputs)
    assert found["random_outputs"]["value"] == 1.0


def test_probabilities_for_logits_are_caught(digits, few, thresholds):
    model, _ = digits
    network = Wrapped(model, tf.nn.softmax)
    found, _ = flags_of(network, thresholds, few.first(20), only=checks.probabilities_for_logits)
    assert "Remove its softmax" in found["probabilities_for_logits"]["message"]


def test_attacks_that_are_too_short_are_caught(digits, few, thresholds):
    model, _ = digits
    weak = [Entry("main", Attack(objective("main"), pgd(EPSILON, 1)))]
    found, _ = flags_of(model, thresholds, few, weak, only=checks.more_steps_win)
    assert found["more_steps_win"]["value"] > 0.01


def test_a_network_that_always_leaves_at_exit_1_is_broken_by_the_suite(digits, few):
    """A defence for show: attacks on the last exit find nothing, those that know the exits do."""
    model, _ = digits
    always = np.full(2, 10.0, np.float32)

    class Guarded(Wrapped):
        """Its last exit answers right, whatever the image: but nobody ever gets there."""

        def logits(self, images, up_to=None):
            logits = self.model.logits(images, up_to)
            return logits[:2] + [tf.stop_gradient(each) + 0 * each for each in logits[2:]]

    network = Guarded(model, None)
    main = Entry("main", Attack(objective("main"), pgd(EPSILON, 20)))
    outcomes = run_suite(network, always, few, [main, *QUICK]).outcomes
    assert (outcomes["clean"].exit == 1).all()
    assert outcomes["main"].correct.mean() > outcomes["clean"].correct.mean() - 0.1
    assert outcomes["exit_aware"].correct.mean() < outcomes["clean"].correct.mean() - 0.1


def test_every_check_is_named_by_what_it_finds():
    assert [check.__name__ for check in checks.CHECKS] == [
        "random_outputs",
        "probabilities_for_logits",
        "zero_gradients",
        "black_box_wins",
        "more_steps_win",
        "large_epsilon_fails",
        "transfer_wins",
    ]
