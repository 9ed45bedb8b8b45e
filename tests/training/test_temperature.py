"""Temperatures: exits are calibrated, answers stay, and what was scaled once is not scaled again."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.inference import entropy
from rdi_keras.models import from_backbone
from rdi_keras.presets import Config
from rdi_keras.training import calibrate_finally, scale_temperatures
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
def noisy():
    """Held-out data with some wrong labels: exits that are never wrong have no calibrated scale."""
    data = tiny.data()
    labels = data.labels.copy()
    labels[::5] = (labels[::5] + 1) % 3
    return Split(data.images, labels)


def cross_entropy(logits, labels):
    likely = np.asarray(keras.ops.log_softmax(logits, axis=-1))
    return -likely[np.arange(len(labels)), :, labels].mean(axis=0)


def test_calibrated_exits_have_the_least_cross_entropy_of_all_scales(model, noisy):
    scale_temperatures(model, noisy)
    logits = logits_of(model, noisy.images)
    least = cross_entropy(logits, noisy.labels)
    for scale in (0.5, 0.8, 0.95, 1.05, 1.25, 2.0):
        assert (cross_entropy(scale * logits, noisy.labels) > least).all()


@settings(max_examples=8, deadline=None)
@given(first=st.floats(0.1, 5), second=st.floats(0.1, 5))
def test_only_the_last_temperature_counts_and_no_answer_changes(trained, noisy, first, second):
    model, weights = trained
    model.set_weights(weights)
    before = logits_of(model, noisy.images)
    once = scale_temperatures(model, noisy, second)
    logits = logits_of(model, noisy.images)
    model.set_weights(weights)
    scale_temperatures(model, noisy, first)
    scale_temperatures(model, noisy, second)
    np.testing.assert_allclose(logits_of(model, noisy.images), logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(logits, before * np.array(once)[:, None], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(logits.argmax(-1), before.argmax(-1))


def test_a_lower_temperature_makes_every_sample_surer(model, noisy):
    scale_temperatures(model, noisy)
    calibrated = np.asarray(entropy(logits_of(model, noisy.images)))
    scale_temperatures(model, noisy, 0.5)
    assert (np.asarray(entropy(logits_of(model, noisy.images))) < calibrated).all()


@pytest.mark.parametrize("attacked", [0, 8])
def test_a_configuration_sets_it_before_thresholds(model, noisy, attacked):
    config = Config()
    config.calibration.temperature, config.calibration.attacked = 0.5, attacked
    config.calibration.budget = 0.95
    facts, _ = calibrate_finally(model, config, noisy)
    assert facts["temperature"] == 0.5
    scales = scale_temperatures(model, noisy, 0.5)
    np.testing.assert_allclose(scales, 1, rtol=1e-3)
    assert facts["mean_macs"] <= 0.95 * facts["mean_macs"] / (1 - facts["saving"]) + 1e-6


@pytest.mark.parametrize("temperature", [0, -1.0, np.inf, np.nan])
def test_what_is_no_temperature_is_refused(model, noisy, temperature):
    with pytest.raises(InputError, match="must be a finite number above 0. Received"):
        scale_temperatures(model, noisy, temperature)


def test_an_exit_that_ends_in_no_dense_layer_is_named_and_nothing_is_changed(noisy):
    inputs = keras.Input((5, 5, 1))
    features = keras.layers.ReLU(name="features")(keras.layers.Conv2D(2, 3)(inputs))
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(features))
    bounded = keras.layers.Rescaling(2.0, name="twice")(logits)
    model = from_backbone(keras.Model(inputs, bounded), ["features"])
    before = model.get_weights()
    with pytest.raises(InputError, match="exit_2 ends in Rescaling 'twice'. Leave calibration.temperature"):
        scale_temperatures(model, noisy)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
