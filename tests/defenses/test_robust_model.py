import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from rdi_keras.attacks import APGD, PGD, Attack, objective
from rdi_keras.defenses import CalibrateThresholds, Mix, RobustModel, StopOnDivergence
from rdi_keras.errors import InputError, TrainingDivergedError
from rdi_keras.models import Backbone, Stage
from tests.defenses.tiny import ATTACK, build


def test_fit_learns_and_reports_every_exit_clean_and_attacked(data):
    model = build(optimizer=keras.optimizers.Adam(0.01))
    history = model.fit(*data, validation_data=data, epochs=6, batch_size=32, verbose=0).history
    names = [f"exit_{k}_{kind}" for k in (1, 2) for kind in ("accuracy", "adversarial_accuracy")]
    names_of_losses = ["loss", "exit_1_loss", "exit_2_loss"]
    assert set(history) == {f"{split}{name}" for name in [*names_of_losses, *names] for split in ("", "val_")}
    np.testing.assert_allclose(
        history["loss"], np.add(history["exit_1_loss"], history["exit_2_loss"]), rtol=1e-5
    )
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    for name in names:
        assert history[name][-1] > 0.9
    assert model.evaluate(*data, verbose=0, return_dict=True)["exit_2_accuracy"] > 0.9


@pytest.mark.parametrize(("mix", "exit_weights"), [(0.5, None), (0.3, [0.5, 2.0]), (1.0, [1.0, 0.0])])
def test_loss_is_the_weighted_sum_of_clean_and_adversarial_cross_entropy(data, mix, exit_weights):
    model = build(robust_loss=Mix(mix), exit_weights=exit_weights)
    images, labels = data
    adversarial = ATTACK.perturb(
        model, tf.constant(images), tf.constant(labels), tf.constant([0, -1], tf.int64)
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = sum(
        weight * ((1 - mix) * float(loss(labels, clean)) + mix * float(loss(labels, attacked)))
        for weight, clean, attacked in zip(
            exit_weights or [1, 1], model.logits(images), model.logits(adversarial), strict=True
        )
    )
    measured = model.evaluate(images, labels, batch_size=96, verbose=0, return_dict=True)["loss"]
    assert measured == pytest.approx(expected, rel=1e-4)


def test_sample_weights_and_the_layers_own_losses_count(data):
    model = build(attack=None, robust_loss=Mix(0))
    plain = model.evaluate(*data, batch_size=96, verbose=0, return_dict=True)["loss"]
    weighted = model.evaluate(
        *data, batch_size=96, sample_weight=np.full(96, 3.0), verbose=0, return_dict=True
    )
    assert weighted["loss"] == pytest.approx(3 * plain, rel=1e-5)

    def head(features):
        return layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))(layers.Flatten()(features))

    model = RobustModel.from_backbone(Backbone("own", (5, 5, 1), (Stage(layers.ReLU(), head),)))
    model.compile("adam", robust_loss=Mix(0))
    kernel = model.heads[0].layers[-1].kernel.numpy()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = float(loss(data[1], model.logits(data[0])[0])) + 0.1 * np.sum(kernel**2)
    measured = model.evaluate(*data, batch_size=96, verbose=0, return_dict=True)["loss"]
    assert measured == pytest.approx(expected, rel=1e-5)


def test_weight_zero_is_plain_training_without_an_attack(data):
    model = build(attack=None, robust_loss=Mix(0))
    history = model.fit(*data, epochs=1, verbose=0).history
    losses = {"loss", "exit_1_loss", "exit_2_loss"}
    assert set(history) == {*losses, "exit_1_accuracy", "exit_2_accuracy"}


def test_attack_runs_in_inference_mode(data, monkeypatch):
    """Only the two passes of the loss, clean and attacked, may move BatchNorm statistics."""
    modes = []
    original = RobustModel.logits

    def watched(self, images, up_to=None, training=False):
        modes.append(training)
        return original(self, images, up_to, training)

    monkeypatch.setattr(RobustModel, "logits", watched)
    build(run_eagerly=True).fit(*data, batch_size=96, epochs=1, verbose=0)
    assert modes.count(True) == 2
    assert modes.count(False) >= 2


def test_same_seed_same_weights_and_another_seed_others(data):
    def weights_after_training(seed):
        model = build(seed=seed)
        model.fit(*data, epochs=2, batch_size=32, shuffle=False, verbose=0)
        return np.concatenate([weight.numpy().ravel() for weight in model.trainable_weights])

    first = weights_after_training(seed=1)
    np.testing.assert_array_equal(first, weights_after_training(seed=1))
    assert not np.array_equal(first, weights_after_training(seed=2))


def test_saved_and_loaded_it_is_the_same_model_and_trains_on(data, tmp_path):
    model = build(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), exit_weights=[1.0, 2.0], seed=3)
    model.fit(*data, epochs=1, batch_size=32, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    assert type(loaded) is RobustModel
    assert loaded.attack == model.attack
    assert int(loaded.optimizer.iterations) == 3
    for each in (model, loaded):
        each.fit(*data, epochs=1, batch_size=32, shuffle=False, verbose=0)
    for old, new in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(old.numpy(), new.numpy(), atol=1e-6)


@pytest.mark.parametrize("attack", [Attack(objective("random_exit"), APGD(0.1, 2))], ids=str)
def test_any_attack_trains_and_is_saved_with_the_model(data, tmp_path, attack):
    model = build(attack)
    history = model.fit(*data, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").attack == attack


def test_exit_aware_training_follows_the_calibrated_thresholds(data):
    attack = Attack(objective("exit_aware"), PGD(0.1, num_steps=2, step_size=0.1))
    model = build(attack)
    seen = []
    follow = CalibrateThresholds(lambda each: seen.append(each.thresholds.assign_add([0.5]).numpy().copy()))
    model.fit(*data, epochs=2, verbose=0, callbacks=[follow])
    assert [float(each[0]) for each in seen] == [0.5, 1.0]


def test_nan_stops_training_and_names_step_and_metric(data):
    images = data[0].copy()
    images[40] = np.nan  # In the second batch of 32.
    model = build()
    with pytest.raises(TrainingDivergedError, match=r"step 2: exit_1_loss is nan"):
        model.fit(images, data[1], batch_size=32, shuffle=False, verbose=0, callbacks=[StopOnDivergence()])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attack": None}, "needs an attack"),
        ({"loss": "mse", "metrics": ["acc"]}, "its own loss and metrics. Received: loss, metrics"),
        ({"exit_weights": [1.0]}, "2 exits and takes as many exit weights"),
        ({"attack": Attack(objective("single(3)"), ATTACK.solver)}, "exit 3, but the model has exits 1 to 2"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        build(**options)
