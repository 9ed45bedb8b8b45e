"""Attacks of other libraries: they keep to their ball, change nothing, and are no stronger than ours."""

import dataclasses
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from rdi_keras.attacks import PGD, Attack, CompiledAttack, objective
from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.evaluation import judge, run_suite, suite
from rdi_keras.evaluation.second_opinions import OPINIONS, Opinion, answer_logits, ask
from rdi_keras.models import from_backbone

EPSILON, STEPS = 0.1, 40
LINF_OPINIONS = {"cleverhans_pgd", "cleverhans_spsa", "foolbox_pgd", "art_auto_attack"}
# How many samples the slow ones get, and with what settings.
SAMPLES = {"cleverhans_spsa": 20, "cleverhans_carlini_wagner_l2": 3, "art_auto_attack": 20}
SETTINGS = {
    "cleverhans_spsa": {"num_steps": 15},
    "cleverhans_carlini_wagner_l2": {"num_steps": 50, "searches": 3},
    "art_auto_attack": {"num_steps": 15, "restarts": 1, "queries": 100},
}
# Where a library is missing, its tests are skipped, visibly.
EXTRA = {"foolbox": ["foolbox"], "adversarial-robustness-toolbox": ["art", "multiprocess"]}


def installed(name):
    for module in EXTRA.get(OPINIONS[name].library, []):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install '.[second-opinions]'")
    return dataclasses.replace(OPINIONS[name], settings=SETTINGS.get(name, {}))


@pytest.fixture(scope="module")
def ours(digits, few):
    """Our suite's worst case on the same samples, bool `[n]`."""
    model, _ = digits
    conditions = run_suite(model, model.thresholds, few, suite("standard", EPSILON))
    return conditions.outcomes["worst_case"].correct


@dataclasses.dataclass
class Asked:
    name: str
    data: Split
    entry: dict
    unchanged: bool
    attacked: np.ndarray
    images: np.ndarray
    raw: np.ndarray


@pytest.fixture(scope="module", params=OPINIONS)
def asked(request, digits, few):
    """One opinion, its entry, and what its library gave for which images."""
    model, _ = digits
    opinion, seen = installed(request.param), []

    def record(network, images, labels, *arguments, **settings):
        seen.append((images, opinion.attack(network, images, labels, *arguments, **settings)))
        return seen[-1][1]

    before = [np.array(each) for each in model.variables]
    data = few.first(SAMPLES.get(request.param))
    start = time.perf_counter()
    recorded = {request.param: dataclasses.replace(opinion, attack=record)}
    entry = ask([request.param], model, data, model.thresholds, EPSILON, opinions=recorded)[request.param]
    print(f"{request.param}: {entry}, {time.perf_counter() - start:.1f} s")
    unchanged = all(map(np.array_equal, before, model.variables))
    [(images, raw)] = seen
    attacked = dataclasses.replace(opinion, attack=lambda *_, **__: raw).perturb(
        model, images, *[None] * 2, EPSILON
    )
    return Asked(request.param, data, entry, unchanged, attacked, images, raw)


def test_an_opinion_keeps_to_its_ball(asked):
    for images in (asked.raw, asked.attacked):
        assert images.shape == asked.images.shape
        assert np.isfinite(images).all()
        assert images.min() >= 0
        assert images.max() <= 1
    assert asked.attacked.dtype == np.float32
    if asked.name in LINF_OPINIONS:
        # Rounding of float32 may carry a pixel a little over the edge.
        assert np.abs(asked.raw - asked.images).max() <= EPSILON + 1e-6
        assert np.abs(asked.attacked - asked.images).max() <= EPSILON + 1e-6


def test_an_opinion_leaves_the_network_as_it_was(asked):
    assert asked.unchanged


def test_an_opinion_breaks_something(asked):
    least = 0.1 if asked.name == "wrm" else 0.2  # WRM pays for every step away.
    assert asked.entry["accuracy"] < asked.entry["clean_accuracy"] - least
    assert asked.entry["num_samples"] == len(asked.data)
    assert (asked.entry["threat_model"] == "linf") == (asked.name in LINF_OPINIONS)
    assert ("median_distance" in asked.entry) == (asked.entry["threat_model"] == "l2")


def test_no_linf_opinion_is_stronger_than_our_suite(asked, ours):
    if asked.name not in LINF_OPINIONS:
        pytest.skip("an L2 attack stays in no L∞ ball")
    mine = ours[: len(asked.data)].mean()
    print(f"{asked.name}: {asked.entry['accuracy']:.4f} theirs, {mine:.4f} ours")
    assert mine <= asked.entry["accuracy"] + 0.01


def test_pgd_of_cleverhans_is_no_stronger_than_ours_with_the_same_loss_and_steps(digits):
    model, unseen = digits
    # From one random start to another either accuracy moves by half a point: every image gets five.
    data = unseen.take(np.tile(np.arange(len(unseen)), 5))
    theirs = ask(["cleverhans_pgd"], model, data, model.thresholds, EPSILON, batch_size=len(data))
    theirs = theirs["cleverhans_pgd"]
    attack = Attack(objective("exit_aware"), PGD(EPSILON, STEPS, 2.5 * EPSILON / STEPS))
    images = CompiledAttack(attack, model)(data.images, data.labels, model.thresholds)
    ours = judge(model, images, data.labels, model.thresholds).correct.mean()
    print(f"{len(unseen)} images: {ours:.4f} ours, {theirs}")
    assert ours < theirs["clean_accuracy"] - 0.05
    assert ours <= theirs["accuracy"] + 0.01


@pytest.mark.parametrize("name", ["cleverhans_pgd", "foolbox_pgd", "art_auto_attack"])
def test_statistics_of_batch_normalisation_stay_as_they_are(name):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    first = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    normal = keras.layers.BatchNormalization(name="bn")(first)
    vector = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(normal))
    trunk = keras.Model(inputs, keras.layers.Dense(3)(vector))
    model = from_backbone(trunk, ["bn"])
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (4, 8, 8, 1)).astype(np.float32)
    thresholds = np.array([0.5], np.float32)
    labels = np.argmax(answer_logits(model, thresholds)(images), axis=1)
    before = [np.array(each) for each in model.variables]
    quick = {"num_steps": 3} | ({"restarts": 1, "queries": 3} if name == "art_auto_attack" else {})
    dataclasses.replace(installed(name), settings=quick).perturb(model, images, labels, thresholds, EPSILON)
    assert all(map(np.array_equal, before, model.variables))


def test_the_answer_is_that_of_the_exit_where_a_sample_leaves_and_has_a_gradient(digits, few):
    model, _ = digits
    images = tf.constant(few.images)
    answer = answer_logits(model, model.thresholds)
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = answer(images)
    outcome = judge(model, few.images, few.labels, model.thresholds)
    assert len(set(outcome.exit)) > 1
    every = np.stack(model.logits(images), axis=1)
    np.testing.assert_allclose(logits, every[np.arange(len(few)), outcome.exit - 1], atol=1e-5)
    np.testing.assert_array_equal(np.argmax(logits, axis=1) == few.labels, outcome.correct)
    assert np.abs(tape.gradient(logits, images)).reshape(len(few), -1).max(axis=1).min() > 0
    assert answer(few.images.astype(np.float64)).dtype == tf.float32


def fake(attack, threat_model="linf"):
    return Opinion("cleverhans", (), threat_model, attack)


def test_a_result_is_not_trusted(digits, few):
    model, _ = digits

    def wild(network, images, *_, **__):
        far = images + 3 * EPSILON
        far[0, 0, 0, 0] = np.nan
        return far

    attacked = fake(wild).perturb(model, few.images, few.labels, model.thresholds, EPSILON)
    np.testing.assert_array_equal(attacked[0], few.images[0])
    np.testing.assert_allclose(attacked[1:], np.minimum(few.images[1:] + np.float32(EPSILON), 1), atol=1e-6)


def test_wrong_clean_counts_as_wrong_and_is_not_attacked(digits, few):
    model, _ = digits
    clean = judge(model, few.images, few.labels, model.thresholds).correct
    assert 0 < clean.sum() < len(few)
    batches = []

    def nothing(network, images, labels, *_, **__):
        batches.append(len(images))
        return images

    told = []
    opinions = {"nothing": fake(nothing), "in_l2": fake(nothing, "l2")}
    entries = ask(
        list(opinions),
        model,
        few,
        model.thresholds,
        EPSILON,
        batch_size=25,
        opinions=opinions,
        on_batch=told.append,
    )
    assert sum(batches) == 2 * clean.sum()
    assert told == ["nothing"] * 3 + ["in_l2"] * 3
    assert entries["nothing"] == {
        "library": "cleverhans",
        "version": "4.0.0",
        "threat_model": "linf",
        "settings": {},
        "num_samples": len(few),
        "clean_accuracy": clean.mean(),
        "accuracy": clean.mean(),
    }
    assert entries["in_l2"]["mean_distance"] is None
    assert entries["in_l2"]["accuracy_in_budget"] == clean.mean()


def test_distances_of_l2_attacks_are_of_successful_results(digits, few):
    model, _ = digits
    clean = judge(model, few.images, few.labels, model.thresholds).correct

    def another_image(network, images, *_, **__):
        return np.roll(images, 1, axis=0)

    opinions = {"l2": fake(another_image, "l2")}
    entry = ask(["l2"], model, few, model.thresholds, EPSILON, l2_budget=1e9, opinions=opinions)["l2"]
    right = few.take(clean)
    rolled = np.roll(right.images, 1, axis=0)
    broken = ~judge(model, rolled, right.labels, model.thresholds).correct
    distances = np.linalg.norm((rolled - right.images).reshape(len(right), -1), axis=1)[broken]
    np.testing.assert_allclose(entry["mean_distance"], distances.mean(), rtol=1e-6)
    np.testing.assert_allclose(entry["median_distance"], np.median(distances), rtol=1e-6)
    assert entry["accuracy"] == entry["accuracy_in_budget"] == (~broken).sum() / len(few)
    entry = ask(["l2"], model, few, model.thresholds, EPSILON, l2_budget=0.0, opinions=opinions)["l2"]
    assert entry["accuracy_in_budget"] == clean.mean()


@pytest.mark.parametrize("name", ["foolbox_pgd", "art_auto_attack", "cleverhans_pgd"])
def test_a_missing_extra_is_named(name, monkeypatch, digits, few):
    model, _ = digits
    for module in OPINIONS[name].modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        InputError, match=r"needs the module .*pip install 'rdi_keras\[second-opinions\]'$"
    ) as info:
        ask([name], model, few, model.thresholds, EPSILON)
    assert "\n" not in str(info.value)


def test_requests_that_cannot_be_met(digits, few):
    model, _ = digits

    def refused(names=("cleverhans_pgd",), data=few, thresholds=model.thresholds, epsilon=EPSILON):
        with pytest.raises(InputError) as info:
            ask(names, model, data, thresholds, epsilon)
        return str(info.value)

    assert "'mine'. Allowed: cleverhans_pgd, " in refused(names=["mine"])
    assert "epsilon above 0" in refused(epsilon=0)
    assert "0 samples" in refused(data=few.first(0))
    assert "takes 2 thresholds" in refused(thresholds=[0.5])


def test_the_global_state_of_numpy_is_given_back(digits, few):
    model, _ = digits
    np.random.seed(3)
    expected = np.random.uniform(size=4)
    np.random.seed(3)
    ask(["cleverhans_pgd"], model, few.first(2), model.thresholds, EPSILON)
    np.testing.assert_array_equal(np.random.uniform(size=4), expected)
