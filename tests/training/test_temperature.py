"""Temperatures: exits are calibrated, answers stay, and what was scaled once is not scaled again."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdi_keras.attacks import Attack, objective, pgd
from rdi_keras.errors import InputError
from rdi_keras.evaluation import Entry, run_suite
from rdi_keras.inference import cost_table, entropy, exits_at
from rdi_keras.models import from_backbone
from rdi_keras.presets import Config
from rdi_keras.training import calibrate_finally, calibration_facts, scale_temperatures
from rdi_keras.training.calibrating import logits_of
from tests.training import tiny


@pytest.fixture(scope="module")
def trained():
    model = tiny.build()
    tiny.loop(model, None).run()
    return model, model.get_weights()


@pytest.fixture
def model(trained):
    model, weights = trained
    model.set_weights(weights)
    return model


@pytest.fixture(scope="module")
def data():
    """Held-out data that the network is always right on: smoothing alone bounds its scale."""
    return tiny.data()


def cross_entropy(logits, labels):
    """Of labels with one count more in each class."""
    n, num_classes = len(labels), logits.shape[-1]
    targets = (n * np.eye(num_classes)[labels] + 1) / (n + num_classes)
    return -(targets[:, None] * np.asarray(keras.ops.log_softmax(logits, axis=-1))).sum(-1).mean(0)


def test_calibrated_exits_have_the_least_cross_entropy_of_all_scales(model, data):
    scale_temperatures(model, data)
    logits = logits_of(model, data.images)
    least = cross_entropy(logits, data.labels)
    for scale in (0.5, 0.8, 0.95, 1.05, 1.25, 2.0):
        assert (cross_entropy(scale * logits, data.labels) > least).all()


@settings(max_examples=8, deadline=None)
@given(first=st.floats(0.25, 4), second=st.floats(0.25, 4))
def test_only_the_last_temperature_counts_and_no_answer_changes(trained, data, first, second):
    model, weights = trained
    model.set_weights(weights)
    before = logits_of(model, data.images)
    once = scale_temperatures(model, data, second)
    logits = logits_of(model, data.images)
    model.set_weights(weights)
    scale_temperatures(model, data, first)
    scale_temperatures(model, data, second)
    np.testing.assert_allclose(logits_of(model, data.images), logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(logits, before * np.array(once)[:, None], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(logits.argmax(-1), before.argmax(-1))


def test_doing_it_again_changes_no_bit(model, data):
    scale_temperatures(model, data, 0.5)
    weights = model.get_weights()
    np.testing.assert_allclose(scale_temperatures(model, data, 0.5), 1, rtol=1e-4)
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_lower_temperature_makes_every_sample_surer(model, data):
    scale_temperatures(model, data)
    calibrated = np.asarray(entropy(logits_of(model, data.images)))
    scale_temperatures(model, data, 0.5)
    assert (np.asarray(entropy(logits_of(model, data.images))) < calibrated).all()


def test_attacks_on_cross_entropy_do_not_get_weaker(model, data):
    """A scale that saturates the softmax would hide gradients; these do not."""
    entry = Entry("average", Attack(objective("average"), pgd(0.15, 10)))

    def right():
        thresholds = model.thresholds.numpy()
        return run_suite(model, thresholds, data, [entry]).outcomes["average"].correct.mean()

    before = right()
    assert 0.2 < before < 0.9
    for temperature in (4.0, 1.0, 0.5, 0.25):
        scale_temperatures(model, data, temperature)
        assert right() <= before + 0.05


@pytest.mark.parametrize("attacked", [0, 8])
def test_a_configuration_sets_it_before_thresholds(model, data, attacked):
    config = Config()
    config.calibration.temperature, config.calibration.attacked = 0.5, attacked
    config.calibration.budget = 0.95
    facts, budgets = calibrate_finally(model, config, data)
    assert facts["temperature"] == 0.5
    np.testing.assert_allclose(scale_temperatures(model, data, 0.5), 1, rtol=1e-4)
    # What is said is of the scaled model.
    again = calibration_facts(model, data, facts["method"])
    assert again == {name: facts[name] for name in again}
    costs = np.array(cost_table(model).cumulative) / cost_table(model).backbone
    entropies = np.asarray(entropy(logits_of(model, data.images)))
    for budget, thresholds in zip(budgets.budgets, budgets.thresholds, strict=True):
        assert costs[exits_at(entropies, np.array(thresholds, np.float32)) - 1].mean() <= budget + 1e-6


@pytest.mark.parametrize("temperature", [0, -1.0, np.inf, np.nan])
def test_what_is_no_temperature_is_refused(model, data, temperature):
    with pytest.raises(InputError, match="must be a finite number above 0. Received"):
        scale_temperatures(model, data, temperature)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda kernel: np.nan * kernel, "exit_2 gives logits that are no finite numbers"),
        (lambda kernel: -kernel, "exit_2 has no calibrated scale: on 40 held-out samples"),
        (np.zeros_like, "exit_2 has no calibrated scale"),
        (
            lambda kernel: 1e-4 * kernel,
            "exit_2 has logits that only a factor of 1000 or more would calibrate",
        ),
    ],
)
def test_an_exit_without_a_calibrated_scale_is_named_and_nothing_is_changed(model, data, spoil, said):
    last = model.heads[1].layers[-1]
    last.kernel.assign(spoil(last.kernel.numpy()))
    last.bias.assign(np.zeros(3))
    before = model.get_weights()
    with pytest.raises(InputError, match=said):
        scale_temperatures(model, data, 0.5)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def rescaled(features):
    return keras.layers.Rescaling(2.0, name="twice")(keras.layers.Dense(3)(features))


def bounded(features):
    return keras.ops.tanh(keras.layers.Dense(3)(features))


@pytest.mark.parametrize(
    ("head", "said"),
    [(rescaled, "exit_1 ends in Rescaling 'twice'. Leave"), (bounded, "exit_1 ends in Tanh")],
)
def test_an_exit_that_ends_in_no_dense_layer_is_named(data, head, said):
    def flat(features):
        return head(keras.layers.Flatten()(features))

    with pytest.raises(InputError, match=said):
        scale_temperatures(with_heads(flat), data)


def test_exits_that_share_their_last_layer_are_refused(data):
    shared = keras.layers.Dense(3)

    def head(features):
        return shared(keras.layers.GlobalAveragePooling2D()(features))

    with pytest.raises(InputError, match="of exits 1 to 3: (dense.*), \\1, dense.*. Give each"):
        scale_temperatures(with_heads(head, ["first", "second"]), data)


def with_heads(head, exits_after=("first",)):
    inputs = keras.Input((5, 5, 1))
    features = keras.layers.ReLU(name="first")(keras.layers.Conv2D(2, 3)(inputs))
    features = keras.layers.ReLU(name="second")(keras.layers.Conv2D(2, 1)(features))
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(features))
    return from_backbone(keras.Model(inputs, logits), list(exits_after), heads=head)
