"""Losses and terms against their formulas, by numpy."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from rdi_keras.attacks import NFGSM, PGD, Attack, CompiledAttack, objective, pgd
from rdi_keras.data import Split
from rdi_keras.defenses import (
    CarriedPerturbation,
    Mart,
    Mix,
    NeighbourDistillation,
    OrthogonalDistillation,
    OverfittingProbe,
    SplitMix,
    Trades,
)
from rdi_keras.errors import InputError
from tests.defenses.tiny import build

LABELS = np.array([0, 2, 1, 2, 0])
SEED = tf.constant([1, 2], tf.int64)


def logits(seed: int, exits: int = 1) -> list[tf.Tensor]:
    draw = np.random.default_rng(seed)
    return [tf.constant(draw.normal(0, 2, (5, 3)), tf.float32) for _ in range(exits)]


def softmax(values) -> np.ndarray:
    exponents = np.exp(np.asarray(values, np.float64))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def cross_entropy(values) -> np.ndarray:
    return -np.log(softmax(values)[np.arange(5), LABELS])


def kl(clean, attacked) -> np.ndarray:
    p, q = softmax(clean), softmax(attacked)
    return (p * np.log(p / q)).sum(axis=-1)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_mix(weight):
    clean, attacked = logits(0, 2)
    expected = (1 - weight) * cross_entropy(clean) + weight * cross_entropy(attacked)
    np.testing.assert_allclose(Mix(weight)(clean, attacked, LABELS), expected, rtol=1e-4)
    assert Mix(weight).needs_attack == (weight > 0)


def test_trades():
    clean, attacked = logits(0, 2)
    expected = cross_entropy(clean) + 4 * kl(clean, attacked)
    np.testing.assert_allclose(Trades(4)(clean, attacked, LABELS), expected, rtol=1e-4)
    np.testing.assert_allclose(Trades(4)(clean, clean, LABELS), cross_entropy(clean), rtol=1e-4)


def test_mart():
    clean, attacked = logits(0, 2)
    probabilities = softmax(attacked)
    rows = np.arange(5)
    rival = np.where(np.eye(3)[LABELS] == 1, 0, probabilities).max(axis=-1)
    boosted = -np.log(probabilities[rows, LABELS]) - np.log(1 - rival)
    expected = boosted + 5 * kl(clean, attacked) * (1 - softmax(clean)[rows, LABELS])
    np.testing.assert_allclose(Mart(5)(clean, attacked, LABELS), expected, rtol=1e-4)


@pytest.mark.parametrize("gap", [5.0, 18.0, 25.0, 60.0])
def test_mart_holds_where_a_wrong_class_is_sure(gap):
    """−ln p_y − ln(1 − p_r), with logits 0, gap, 0 and label 0: both terms are gap, but for little."""
    attacked = tf.constant([[0.0, gap, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(attacked)
        loss = Mart(0)(tf.zeros((1, 3)), attacked, np.array([0]))
    z = np.array([0.0, gap, 0.0])
    total, others = np.exp(z).sum(), 2.0
    assert float(loss[0]) == pytest.approx(2 * np.log(total) - np.log(others), rel=1e-5)
    expected = 2 * np.exp(z) / total - [1, 0, 0] - np.array([1, 0, 1]) / others
    np.testing.assert_allclose(tape.gradient(loss, attacked)[0], expected, atol=1e-5)


@pytest.mark.parametrize("make", [lambda s: Mix(0.0, s), lambda s: Trades(0, s)], ids=["mix", "trades"])
def test_label_smoothing_is_cross_entropy_with_soft_labels(make):
    clean, attacked = logits(0, 2)
    soft = 0.7 * np.eye(3)[LABELS] + 0.3 / 3
    expected = -(soft * np.log(softmax(clean))).sum(axis=-1)
    np.testing.assert_allclose(make(0.3)(clean, attacked, LABELS), expected, rtol=1e-4)


def test_neighbours_teach_their_mean():
    clean, attacked = logits(1, 3), logits(2, 3)
    answers = [softmax(each) for each in clean]
    teachers = [np.mean(answers[:2], axis=0), np.mean(answers, axis=0), np.mean(answers[1:], axis=0)]
    expected = sum(
        -(teacher * np.log(softmax(each))).sum(axis=-1)
        for teacher, each in zip(teachers, attacked, strict=True)
    )
    found = NeighbourDistillation(2)(clean, attacked, LABELS, SEED)
    np.testing.assert_allclose(sum(found), 2 * expected, rtol=1e-4)


def test_orthogonal_teachers_share_no_wrong_class():
    """Its gradient in the students' logits is softmax − teacher, which shows the teachers."""
    clean, attacked = logits(1, 3), logits(2, 3)
    with tf.GradientTape() as tape:
        tape.watch([clean, attacked])
        terms = OrthogonalDistillation()(clean, attacked, LABELS, SEED)
        total = tf.reduce_sum(tf.add_n(terms))
    of_teachers, of_students = tape.gradient(total, [clean, attacked])
    assert of_teachers == [None] * 3
    is_label = np.eye(3)[LABELS] == 1
    taught = np.stack(
        [softmax(each) - grad.numpy() for each, grad in zip(attacked, of_students, strict=True)]
    )
    np.testing.assert_allclose(taught.sum(axis=-1), 1, atol=1e-5)
    assert ((taught > 1e-5).sum(axis=0)[~is_label] == 1).all()
    assert (taught[:, is_label] > 1e-5).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Mix(1.5), "adversarial weight must lie between 0 and 1. Received: 1.5"),
        (lambda: Mix(0.5, -0.1), "Label smoothing must lie between 0 and 1. Received: -0.1"),
        (lambda: SplitMix(1.0), "above 0 and below 1, so that there are both kinds. Received: 1.0"),
        (lambda: Trades(-1), "beta must be at least 0. Received: -1"),
        (lambda: Mart(float("nan")), "beta must be at least 0. Received: nan"),
        (lambda: CarriedPerturbation(0.1, (4, 5)), r"\[B, H, W, C\]. Received: \(4, 5\)"),
    ],
)
def test_bad_settings_are_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()


@pytest.mark.parametrize(
    "options",
    [
        {"robust_loss": Trades(2.0)},
        {"robust_loss": Mart(2.0), "terms": [NeighbourDistillation(0.5), OrthogonalDistillation(0.5)]},
        {"attack": Attack(objective("divergence"), PGD(0.1, 2, 0.1), keep="last"), "robust_loss": Trades()},
        {"attack": Attack(objective("average+slowdown(0.5)"), NFGSM(0.1))},
        {"robust_loss": SplitMix(0.4, 0.05)},
    ],
    ids=["trades", "mart", "divergence", "n_fgsm", "split_mix"],
)
def test_every_defence_learns_and_is_saved_with_the_model(options, data, tmp_path):
    model = build(optimizer=keras.optimizers.Adam(0.01), **options)
    history = model.fit(*data, epochs=8, batch_size=32, verbose=0).history
    assert history["exit_2_adversarial_accuracy"][-1] > 0.8
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for name in ("attack", "robust_loss", "terms"):
        assert getattr(loaded, name) == getattr(model, name)


@pytest.mark.parametrize(("weight", "number"), [(0.25, 8), (0.5, 16), (0.01, 1)])
def test_split_mix_attacks_its_share_of_a_batch_in_one_pass(weight, number, data, monkeypatch):
    """The loss is that of the mixed batch, and the accuracies are those of its two parts."""
    images, labels = (tf.constant(each[:32]) for each in data)
    model, same = (build(robust_loss=SplitMix(weight), run_eagerly=True) for _ in range(2))
    attacked = tf.concat([same.attacked(images[:number], labels[:number], 0), images[number:]], axis=0)
    expected = [each.numpy() for each in same.logits(attacked, training=True)]
    loss, views = keras.losses.SparseCategoricalCrossentropy(from_logits=True), []
    original = type(model).logits

    def watched(self, batch, up_to=None, training=False):
        if training:
            views.append(batch.numpy())
        return original(self, batch, up_to, training)

    monkeypatch.setattr(type(model), "logits", watched)
    told = {name: float(value) for name, value in model.train_step((images, labels)).items()}
    (view,) = views
    np.testing.assert_allclose(view, attacked, atol=1e-6)
    assert np.any(view != images.numpy(), axis=(1, 2, 3)).sum() == number
    for name, each in zip(("exit_1", "exit_2"), expected, strict=True):
        assert told[f"{name}_loss"] == pytest.approx(float(loss(labels, each)), rel=1e-4)
        right = np.argmax(each, axis=-1) == labels.numpy()
        assert told[f"{name}_accuracy"] == pytest.approx(right[number:].mean())
        assert told[f"{name}_adversarial_accuracy"] == pytest.approx(right[:number].mean())


def test_split_mix_is_validated_like_mix(data):
    told = [
        build(robust_loss=loss).evaluate(*data, batch_size=96, verbose=0, return_dict=True)
        for loss in (Mix(0.3), SplitMix(0.3))
    ]
    assert told[0] == pytest.approx(told[1])


@pytest.mark.parametrize(
    "options", [{"terms": [NeighbourDistillation()]}, {"carried": CarriedPerturbation(0.1, (4, 5, 5, 1))}]
)
def test_split_mix_refuses_what_needs_both_views(options):
    with pytest.raises(InputError, match="SplitMix sees every sample either clean or attacked"):
        build(robust_loss=SplitMix(), **options)


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4), st.floats(0.01, 1))
def test_a_carried_perturbation_stays_in_the_ball_and_in_the_image(gradient, epsilon):
    carried = CarriedPerturbation(epsilon, (1, 2, 2, 1))
    images = tf.constant([[[[0.0], [0.3]], [[0.9], [1.0]]]])
    for _ in range(3):
        carried.climb(tf.reshape(tf.constant(gradient, tf.float32), (1, 2, 2, 1)))
        attacked = carried.apply(images)
        assert np.abs(carried.delta).max() <= np.float32(epsilon)
        assert np.min(attacked) >= 0
        assert np.max(attacked) <= 1


def test_free_training_climbs_and_learns(data):
    carried = CarriedPerturbation(0.1, (32, 5, 5, 1))
    model = build(optimizer=keras.optimizers.Adam(0.01), carried=carried)
    history = model.fit(*data, epochs=8, batch_size=32, shuffle=False, verbose=0).history
    assert history["exit_2_adversarial_accuracy"][-1] > 0.8
    assert set(np.unique(np.round(np.abs(carried.delta), 6))) <= {0.0, np.float32(0.1).round(6)}
    assert np.abs(carried.delta).max() > 0


def test_last_takes_fewer_passes_and_stays_in_the_ball(data, monkeypatch):
    model, passes = build(), []
    original = type(model).logits

    def counted(self, *args, **kwargs):
        passes.append(1)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "logits", counted)
    images, labels = (tf.constant(each) for each in data)
    best = Attack(objective("average"), PGD(0.1, 2, 0.1))
    for attack, expected in ((best, 5), (dataclasses.replace(best, keep="last"), 3)):
        passes.clear()
        found = attack.perturb(model, images, labels, SEED)
        assert len(passes) == expected
        assert attack.solver.ball.holds(found, images)


def test_trades_attacks_what_is_wrong_already_too(data):
    """A perturbation that moves the answer but lowers the cross-entropy is kept all the same."""
    model, (images, labels) = build(), data
    attack = Attack(objective("divergence"), PGD(0.1, 2, 0.1))
    changed = attack.perturb(model, tf.constant(images), tf.constant(labels), SEED)
    assert (np.abs(changed - images).max(axis=(1, 2, 3)) > 0).all()


class TestProbe:
    @pytest.fixture
    def probed(self, data):
        model = build()
        attack = CompiledAttack(Attack(objective("average"), pgd(0.05, 2)), model)
        probe = OverfittingProbe(attack, Split(*data))
        probe.set_model(model)
        model.stop_training = False
        return model, probe

    def test_a_collapse_brings_the_best_weights_back(self, probed, data):
        model, probe = probed
        model.fit(*data, epochs=15, batch_size=32, verbose=0)
        logs = {}
        probe.on_epoch_end(0, logs)
        good = model.get_weights()
        assert logs["probe_accuracy"] > 0.7
        model.set_weights([0 * each for each in good])
        probe.on_epoch_end(1, logs)
        assert logs["probe_accuracy"] < 0.5
        assert model.stop_training
        assert probe.collapsed_at == 2
        for ours, theirs in zip(model.get_weights(), good, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_a_dip_is_no_collapse(self, probed, monkeypatch):
        model, probe = probed
        for number, wanted in enumerate((0.8, 0.6, 0.7)):
            answers = np.where(np.arange(96) < wanted * 96, probe._held_out.labels, -1)
            faked = np.full((96, 3), 0.0)
            faked[np.arange(96), answers] = 1
            faked[answers < 0] = np.roll(np.eye(3)[probe._held_out.labels[answers < 0]], 1, axis=-1)
            monkeypatch.setattr(model, "logits", lambda images, faked=faked: [faked])
            monkeypatch.setattr(probe, "_attack", lambda images, labels, seed: images)
            probe.on_epoch_end(number, {})
        assert not model.stop_training
        assert probe.collapsed_at == 0
