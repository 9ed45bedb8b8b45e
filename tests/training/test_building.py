"""From a configuration to a compiled, calibrated model; fitting itself is tested with the commands."""

import dataclasses

import keras
import numpy as np
import pytest

from rdi_keras import training
from rdi_keras.data import Dataset, Split
from rdi_keras.errors import InputError
from rdi_keras.inference import cost_table, entropy, exits_at
from rdi_keras.names import exit_names
from rdi_keras.presets import PRESETS, AttackConfig, CalibrationConfig, Config, DataConfig, preset
from rdi_keras.training.optimizers import WARMUP_SHARE


@pytest.fixture(scope="module")
def dataset():
    return training.load_data(preset("digits"))


@pytest.fixture(scope="module")
def model(dataset):
    """Untrained: its entropies spread enough to calibrate on."""
    return training.build_model(preset("digits"), dataset)


def exits_of(model, split) -> np.ndarray:
    outputs = model.predict(split.images, verbose=0)
    logits = np.stack([outputs[name] for name in exit_names(model.num_exits)], axis=1)
    return exits_at(np.asarray(entropy(logits)), model.thresholds.numpy())


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (CalibrationConfig(budget=0.55), "budget 0.55"),
        (CalibrationConfig(shares=[0.5, 0.3, 0.2]), "shares [0.5, 0.3, 0.2]"),
    ],
    ids=["budget", "shares"],
)
def test_calibrate_sets_thresholds_and_says_what_they_do(model, dataset, config, method):
    held_out = dataset.calibration
    model.thresholds.assign([0.0, 0.0])

    found = training.calibrate(model, held_out, config)

    assert (model.thresholds.numpy() > 0).all()
    exits = exits_of(model, held_out)
    cost = cost_table(model)
    assert found["method"] == method
    assert found["n"] == len(held_out)
    np.testing.assert_allclose(found["exit_shares"], [np.mean(exits == k) for k in (1, 2, 3)])
    assert found["mean_macs"] == pytest.approx(np.asarray(cost.cumulative)[exits - 1].mean())
    assert found["saving"] == pytest.approx(1 - found["mean_macs"] / cost.backbone)
    outputs = model.predict(held_out.images, verbose=0)
    answers = [outputs[f"exit_{k}"][row].argmax() for row, k in enumerate(exits)]
    assert found["accuracy"] == pytest.approx(np.mean(answers == held_out.labels))
    if config.shares:
        np.testing.assert_allclose(found["exit_shares"], config.shares, atol=1 / len(held_out))
    else:
        assert found["saving"] >= 1 - config.budget


def test_a_budget_that_no_exit_meets_is_refused(model, dataset):
    with pytest.raises(InputError, match="cannot be met"):
        training.calibrate(model, dataset.calibration, CalibrationConfig(budget=1e-6))


def test_the_twin_has_no_thresholds(dataset):
    twin = training.build_model(preset("digits"), dataset, side_exits=False)
    assert twin.num_exits == 1

    found = training.calibrate(twin, dataset.calibration, CalibrationConfig())

    assert twin.thresholds.shape == (0,)
    assert found["exit_shares"] == [1.0]
    assert found["saving"] == pytest.approx(0)


def test_training_attack_crosses_the_ball_by_default():
    attack = training.build_attack(AttackConfig(objective="average", num_steps=5, restarts=2), "8/255")
    assert str(attack.objective) == "average"
    assert attack.solver.epsilon == pytest.approx(8 / 255)
    assert attack.solver.step_size == pytest.approx(2.5 * 8 / 255 / 5)
    assert (attack.solver.num_steps, attack.solver.restarts) == (5, 2)


def test_training_attack_takes_a_radius_of_its_own():
    attack = training.build_attack(AttackConfig(epsilon="5/255", num_steps=5), "8/255")
    assert attack.solver.ball.epsilon == pytest.approx(5 / 255)
    assert attack.solver.step_size == pytest.approx(2.5 * 5 / 255 / 5)
    noisy = training.build_attack(AttackConfig(epsilon="5/255", solver="n_fgsm"), "8/255")
    assert noisy.solver.epsilon == pytest.approx(5 / 255)
    with pytest.raises(InputError, match=r"training\.attack\.epsilon must lie between 0 and 1.*'8'"):
        training.build_attack(AttackConfig(epsilon="8"), "8/255")


def test_training_attack_takes_an_explicit_step_size():
    attack = training.build_attack(AttackConfig(step_size="2/255", random_start=False), "0.1")
    assert attack.solver.step_size == pytest.approx(2 / 255)
    assert not attack.solver.random_start


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_learning_rate_warms_up_to_the_configured_rate_and_falls(dataset, optimizer):
    config = Config()
    config.training.optimizer = optimizer
    config.training.learning_rate = 0.02
    config.training.epochs, config.training.batch_size = 10, 64
    model = training.build_model(config, dataset)
    num_steps = len(dataset.train) // 64 * 10

    schedule = model.optimizer.get_config()["learning_rate"]["config"]
    schedule = keras.optimizers.schedules.CosineDecay.from_config(schedule)
    rates = np.array([float(schedule(step)) for step in range(num_steps + 1)])

    top = rates.argmax()
    assert rates[0] == pytest.approx(0.002)
    assert rates[top] == pytest.approx(0.02)
    assert top == round(WARMUP_SHARE * num_steps)
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    assert rates[-1] == pytest.approx(0.0002, rel=0.01)


def test_an_unknown_optimizer_is_refused(dataset):
    config = Config()
    config.training.optimizer = "adagrad"
    with pytest.raises(InputError, match="Unknown optimizer 'adagrad'. Allowed: adam, sgd"):
        training.build_model(config, dataset)


def test_the_seed_decides_the_weights(dataset):
    def weights(seed: int) -> list[np.ndarray]:
        return training.build_model(Config(seed=seed), dataset).get_weights()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert any(not np.array_equal(one, two) for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "data.image_size",
        "data.train_limit",
        "training.epochs",
        "training.batch_size",
        "evaluation.limit",
        "evaluation.batch_size",
    ],
)
def test_counts_below_one_are_refused(name):
    config = Config()
    section, field = name.split(".")
    setattr(getattr(config, section), field, 0)
    with pytest.raises(InputError, match=f"{name} must be at least 1. Received: 0"):
        training.load_data(config)


def test_train_limit_cuts_the_training_data_alone(dataset):
    limited = training.load_data(Config(data=DataConfig(train_limit=50)))
    assert len(limited.train) == 50
    assert len(limited.calibration) == len(dataset.calibration)
    assert len(limited.test) == len(dataset.test)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_for_two_steps(name):
    """On noise of the right shape: the real sets are not everywhere."""
    config = preset(name)
    config.training.batch_size, config.training.epochs = 8, 1
    random = np.random.default_rng(0)
    shape = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1)}.get(name, (32, 32, 3))
    images = random.uniform(size=(16, *shape)).astype(np.float32)
    noise = Split(images, random.integers(0, 10, 16))
    dataset = Dataset(name, tuple("0123456789"), noise, noise, noise)
    model = training.build_model(config, dataset)
    before = [weight.numpy() for weight in model.trainable_weights]
    training.fit_model(model, config, dataset)
    assert int(model.optimizer.iterations) == 2
    changed = [np.any(old != new) for old, new in zip(before, model.trainable_weights, strict=True)]
    assert np.mean(changed) > 0.9
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_trunk_is_taken_over_and_frozen(dataset, tmp_path):
    config = preset("digits")
    source = training.build_model(dataclasses.replace(config, seed=1), dataset)
    source.save(tmp_path / "model.keras")
    config.model.trunk, config.model.heads, config.model.exits_after = str(tmp_path), "light", [2]
    model = training.build_model(config, dataset)
    images = dataset.calibration.images[:9]
    np.testing.assert_allclose(model.logits(images)[-1], source.logits(images)[-1], atol=1e-5)
    assert len(model.trainable_weights) == len(model.heads[0].weights)
    config.training = dataclasses.replace(
        config.training, epochs=1, attack=AttackConfig(objective="average", num_steps=1)
    )
    before = model.logits(images)
    training.fit_model(model, config, dataset.with_train_limit(64))
    after = model.logits(images)
    np.testing.assert_array_equal(after[-1], before[-1])
    assert np.abs(after[0] - before[0]).max() > 1e-4


def test_a_trunk_of_another_network_is_refused(dataset, tmp_path):
    config = preset("digits")
    training.build_model(config, dataset).save(tmp_path / "model.keras")
    config.model.trunk, config.model.backbone = str(tmp_path), "resnet20"
    with pytest.raises(
        InputError, match="does not fit: layer 'stem_conv' has weights of shape .* here and .* there"
    ):
        training.build_model(config, dataset)


def test_training_goes_on_from_the_weights_of_a_run(dataset, tmp_path):
    config = preset("digits")
    sources = {}
    for name, side_exits in (("model.keras", True), ("twin.keras", False)):
        sources[side_exits] = training.build_model(dataclasses.replace(config, seed=1), dataset, side_exits)
        sources[side_exits].save(tmp_path / name)
    config.model.weights = str(tmp_path)
    images = dataset.calibration.images[:9]
    for side_exits, source in sources.items():
        model = training.build_model(config, dataset, side_exits)
        for ours, theirs in zip(model.logits(images), source.logits(images), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        assert len(model.trainable_weights) == len(source.trainable_weights)
    config.model.heads = "light"
    with pytest.raises(InputError, match="The network to take over does not fit: layer"):
        training.build_model(config, dataset)
    config.model.trunk = str(tmp_path)
    with pytest.raises(InputError, match="model.weights trains on from them. Received: both"):
        training.build_model(config, dataset)
    config.model = dataclasses.replace(preset("digits").model, weights=str(tmp_path / "none"))
    with pytest.raises(InputError, match="Cannot load"):
        training.build_model(config, dataset)


def test_budgets_are_calibrated_for_side_exits_alone(model, dataset):
    table = training.calibrate_budgets(model, dataset.calibration)
    assert table.budgets[0] < 0.2
    assert table.budgets[-1] > 1
    alone = training.build_model(preset("digits"), dataset, side_exits=False)
    assert training.calibrate_budgets(alone, dataset.calibration) is None
