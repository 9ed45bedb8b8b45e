"""An attack bound to a network: what it counts, shares and leaves alone; and what any attack refuses."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_keras.attacks import (
    APGD,
    NFGSM,
    PGD,
    WRM,
    Attack,
    CompiledAttack,
    Square,
    fgsm,
    fooled,
    objective,
    pgd,
)
from rdi_keras.errors import InputError
from rdi_keras.inference import EntropyPolicy


def test_passes_count_what_runs(batch):
    class Counting:
        num_exits, num_classes, calls = 2, 4, 0

        def logits(self, images, up_to=None):
            self.calls += 1
            flat = tf.reshape(images, [-1, 36])[:, :4]
            return [flat] * (up_to or 2)

    # Run eagerly, so that every call of the network is seen.
    network = Counting()
    attack = Attack(objective("max_average"), PGD(0.1, num_steps=3, step_size=0.05, restarts=2))
    images, labels = tf.constant(batch[0]), tf.constant(batch[1])
    attack.perturb(network, images, labels, tf.constant([0, 0], tf.int64))
    compiled = CompiledAttack(attack, network)
    calls = network.calls
    compiled(images, labels)
    assert compiled.forward == len(labels) * calls
    assert compiled.backward == len(labels) * 2 * 2 * 3
    most = attack.most_passes(network)
    assert (compiled.forward, compiled.backward) == tuple(len(labels) * each for each in most)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: objective("nonsense"), "Allowed: main, average"),
        (lambda: objective("single(0)"), "single"),
        (lambda: objective("targeted_exit(0)"), "Unknown attack objective"),
        (lambda: PGD(1, 1, -0.1), "step_size must be at least 0"),
        (lambda: PGD(1, 1, 0.1, norm="l1"), "Unknown norm 'l1'. Allowed: linf, l2"),
        (lambda: PGD(-1, 1, 0.1, norm="l2"), "epsilon must be at least 0"),
        (lambda: PGD(1, 1, 0.1, momentum=-1), "momentum must be at least 0"),
        (lambda: APGD(0.1, 0), "at least 1 step"),
        (lambda: Square(2, 10), "between 0 and 1"),
        (lambda: WRM(-1, 10), "at least 0"),
        (lambda: PGD(-0.1, 1, 0.1), "between 0 and 1"),
        (lambda: PGD(1.5, 1, 0.1), "between 0 and 1"),
        (lambda: PGD("x", 1, 0.1), "fraction such as 8/255"),
        (lambda: PGD(0.1, 0, 0.1), "at least 1 step"),
        (lambda: PGD(0.1, 1, 0.1, restarts=0), "at least 1 restart"),
        (lambda: NFGSM(2), "between 0 and 1"),
        (
            lambda: Attack(objective("main"), fgsm(0.1), keep="first"),
            "keeps 'best' or 'last'. Received: 'first'",
        ),
    ],
)
def test_bad_input_is_refused(make, said):
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        make()


@pytest.mark.parametrize(
    "attack",
    [
        Attack(objective("exit_aware"), PGD(0.2, num_steps=3, step_size=0.1, restarts=2)),
        Attack(objective("random_exit"), APGD(0.2, num_steps=3)),
        Attack(objective("exit_aware_margin"), Square(0.2, num_steps=5)),
    ],
    ids=str,
)
def test_a_sample_is_attacked_alike_in_any_batch(model, batch, attack):
    images, labels = batch
    compiled, order = CompiledAttack(attack, model), np.random.default_rng(0).permutation(len(labels))
    together = compiled(images, labels, model.thresholds, (3, 1)).numpy()
    for samples in (order[:5], order[5:]):
        apart = compiled(images[samples], labels[samples], model.thresholds, (3, 1), samples).numpy()
        np.testing.assert_allclose(apart, together[samples], atol=1e-6)


def test_a_sample_that_is_fooled_is_left_alone(model, batch):
    images, labels = batch
    policy = EntropyPolicy(model.thresholds)
    wrong = np.asarray(fooled(model.logits(images), tf.constant(labels), policy))
    assert 0 < wrong.sum() < len(labels)
    attack = CompiledAttack(Attack(objective("max_average"), PGD(0.2, num_steps=3, step_size=0.1)), model)
    result = attack(images, labels, model.thresholds).numpy()
    np.testing.assert_array_equal(result[wrong], images[wrong])
    most = 3 * (~wrong).sum() * 5 + len(
        labels
    )  # Three parts of five passes, had none been fooled on the way.
    assert attack.forward <= most


def test_radius_and_steps_share_compiled_loops(model, batch):
    loops = {}
    results = {}
    for epsilon, steps in ((0.1, 2), (0.2, 5), (0.3, 5)):
        attack = CompiledAttack(Attack(objective("average"), pgd(epsilon, steps)), model, loops)
        results[epsilon] = attack(*batch, model.thresholds).numpy()
        alone = Attack(objective("average"), pgd(epsilon, steps))(model, *batch, model.thresholds)
        np.testing.assert_allclose(results[epsilon], alone, atol=1e-6)
    assert len(loops) == 2  # One to judge, one to climb.
    assert np.abs(results[0.3] - batch[0]).max() > 0.2


def test_exit_that_the_model_lacks_is_refused(model, batch):
    with pytest.raises(InputError, match="exit 4, but the model has exits 1 to 3"):
        Attack(objective("single(4)"), fgsm(0.1))(model, *batch)


def test_exit_aware_without_thresholds_is_refused(model, batch):
    with pytest.raises(InputError, match="needs the thresholds"):
        Attack(objective("exit_aware"), fgsm(0.1))(model, *batch)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": np.zeros((2, 6, 6, 1), np.uint8)}, "dtype: uint8"),
        ({"images": np.full((2, 6, 6, 1), 3.0)}, "from 3 to 3"),
        ({"images": np.zeros((6, 6, 1))}, r"shape \(B, H, W, C\)"),
        ({"labels": [0]}, "2 integers from 0 to 3"),
        ({"labels": [0, 4]}, r"values \[0, 4\]"),
        ({"labels": [0.0, 1.0]}, "dtype float64"),
        ({"thresholds": [1.0]}, "takes 2 thresholds"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(model, change, said):
    arguments = {"images": np.zeros((2, 6, 6, 1)), "labels": [0, 1], "thresholds": [1.0, 1.0]}
    with pytest.raises(InputError, match=said):
        Attack(objective("exit_aware"), fgsm(0.1))(model, **arguments | change)
