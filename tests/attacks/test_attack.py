"""Laws of every objective × solver, and what makes each one the attack it is said to be."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_keras.attacks import (
    APGD,
    OBJECTIVES,
    PGD,
    Attack,
    CompiledAttack,
    Square,
    cross_entropy,
    fgsm,
    fooled,
    mi_fgsm,
    objective,
)
from rdi_keras.attacks.randomness import sample_draw, sample_seeds
from rdi_keras.inference import EntropyPolicy
from rdi_keras.names import exit_names

SOLVERS = [
    fgsm(0.1),
    mi_fgsm(0.1, num_steps=3),
    PGD("8/255", num_steps=4, step_size=0.02),
    PGD(0.2, num_steps=3, step_size=0.1, restarts=2),
    PGD(0.5, num_steps=3, step_size=0.4, norm="l2"),
    APGD(0.2, num_steps=6),
    APGD(0.5, num_steps=6, norm="l2"),
    Square(0.1, num_steps=6),
]
NAMES = [*OBJECTIVES, "single(1)", "single(2)", "targeted(1)", "targeted_exit(1)", "multi_targeted(1)"]
EVERY = [
    pytest.param(objective(name), solver, id=f"{name}-{solver}")
    # Every objective with one solver, every solver with one objective: the loop that joins them is one.
    for name in NAMES
    for solver in SOLVERS
    if solver is SOLVERS[3] or name == "exit_aware_dlr"
]


# Compiled loops on the fixture's model, which is the same in every test.
LOOPS = {}


@pytest.mark.parametrize(("goal", "solver"), EVERY)
def test_result_stays_in_the_ball_and_leaves_the_model_alone(model, batch, goal, solver):
    before = [weight.numpy().copy() for weight in model.weights]
    attack = CompiledAttack(Attack(goal, solver), model, LOOPS)

    result = attack(*batch, model.thresholds, seed=1).numpy()

    assert result.shape == batch[0].shape
    assert np.isfinite(result).all()
    change = (result - batch[0]).reshape(len(result), -1)
    length = np.abs(change).max(1) if solver.norm == "linf" else np.linalg.norm(change, axis=1)
    assert length.max() <= solver.epsilon + 1e-6
    assert 0 <= result.min() <= result.max() <= 1
    assert all(np.array_equal(old, new.numpy()) for old, new in zip(before, model.weights, strict=True))
    np.testing.assert_array_equal(result, attack(*batch, model.thresholds, seed=1).numpy())
    if getattr(solver, "random_start", True):
        assert not np.array_equal(result, attack(*batch, model.thresholds, seed=2).numpy())


@pytest.mark.parametrize("name", NAMES)
def test_the_objective_rises(model, batch, name):
    """What ranks results is never below the clean image's, and above it for most samples."""
    goal = objective(name)
    policy = EntropyPolicy(model.thresholds)
    images = batch[0]
    labels = np.argmax(policy.answer(model.logits(images))[0], axis=-1)  # So that nobody is fooled yet.
    attack = CompiledAttack(Attack(goal, PGD(0.2, num_steps=10, step_size=0.05)), model, LOOPS)

    adversarial = attack(images, labels, model.thresholds)

    def value(some_images):
        logits = model.logits(some_images)
        reached = goal.reached(logits, tf.constant(labels), policy, model.num_exits)
        return np.asarray(goal.score(logits, labels, policy)) + 1e4 * np.asarray(reached)

    assert (value(adversarial) >= value(images) - 1e-3).all()
    not_yet = value(images) < 1e4
    assert (value(adversarial) > value(images))[not_yet].mean() >= 0.6


def test_zero_epsilon_changes_nothing(model, batch):
    result = Attack(objective("average"), PGD(0, num_steps=2, step_size=0))(model, *batch, model.thresholds)
    np.testing.assert_array_equal(result, batch[0])


def test_every_iterate_counts_not_only_the_last(model, batch):
    """A step far too long jumps about; the best iterate is still at least as good as the start."""
    images, labels = batch
    solver = PGD(0.3, num_steps=5, step_size=0.6)
    result = Attack(objective("main"), solver)(model, images, labels)
    start = solver.start(tf.constant(images), sample_draw(sample_seeds(np.arange(len(images)), 0, 0)))
    last = model.num_exits - 1
    gained = cross_entropy(model.logits(result)[last], labels) - cross_entropy(
        model.logits(start)[last], labels
    )
    assert np.min(gained) >= -1e-5


def test_single_runs_no_segment_beyond_its_exit(batch):
    class Watched:
        num_exits, num_classes, deepest = 3, 4, 0

        def logits(self, images, up_to=None):
            self.asked.append(up_to)
            flat = tf.reshape(images, [-1, 36])[:, :4]
            return [flat] * (up_to or 3)

    network = Watched()
    network.asked = []
    attack = CompiledAttack(Attack(objective("single(2)"), PGD(0.1, 2, 0.05)), network)
    attack(*batch)
    inside_the_loop = [each for each in network.asked if each is not None]
    assert set(inside_the_loop) == {2}


def test_max_average_keeps_the_single_result_with_the_largest_mean_loss(model, batch):
    images, labels = batch
    solver = PGD(0.2, num_steps=5, step_size=0.1, random_start=False)

    def mean_loss(some_images):
        return np.mean([cross_entropy(each, labels) for each in model.logits(some_images)], axis=0)

    singles = [mean_loss(Attack(objective(f"single({k})"), solver)(model, images, labels)) for k in (1, 2, 3)]
    result = Attack(objective("max_average"), solver)(model, images, labels)
    np.testing.assert_allclose(mean_loss(result), np.max(singles, axis=0), rtol=1e-5)


def test_exit_aware_loss_is_the_leaving_exits_own(model, batch):
    images, labels = batch
    logits = model.logits(images)
    policy = EntropyPolicy(model.thresholds)
    exits = np.asarray(policy.exit_of(logits))
    expected = [cross_entropy(logits[k - 1], labels)[row] for row, k in enumerate(exits)]
    np.testing.assert_allclose(objective("exit_aware").loss(logits, labels, policy), expected, rtol=1e-6)
    assert len(set(exits)) > 1, "the fixture should spread samples over exits"


def test_targeted_exit_tries_every_wrong_class_at_every_exit(model, batch):
    images, labels = batch
    parts = objective("targeted_exit").parts(model.num_exits, model.num_classes)
    logits = model.logits(images)
    seen = {
        (part.exit_number, row, int(target))
        for part in parts
        for row, target in enumerate(part.aim(logits[: part.depth(3)], tf.constant(labels), None))
    }
    expected = {
        (exit_number, row, target)
        for exit_number in (1, 2, 3)
        for row in range(len(labels))
        for target in range(4)
        if target != labels[row]
    }
    assert seen == expected


def test_first_target_is_the_most_likely_wrong_class(model, batch):
    images, labels = batch
    part = objective("targeted_exit(1)").parts(3, 4)[1]
    logits = np.array(model.logits(images)[1])
    logits[np.arange(len(labels)), labels] = -np.inf
    targets = part.aim(model.logits(images)[:2], tf.constant(labels), None)
    np.testing.assert_array_equal(targets, logits.argmax(axis=1))


def test_fooled_is_the_adaptive_answer_as_far_as_known(model, batch):
    images, labels = batch
    labels = tf.constant(labels)
    logits = model.logits(images)
    policy = EntropyPolicy(model.thresholds)
    answers, exits = policy.answer(logits)
    wrong = np.argmax(answers, axis=-1) != labels.numpy()
    np.testing.assert_array_equal(fooled(logits, labels, policy), wrong)
    np.testing.assert_array_equal(fooled(logits[:1], labels, policy), wrong & (np.asarray(exits) == 1))
    assert not np.any(fooled(logits, labels, None))


def test_names_come_back_as_text():
    for name in [*NAMES, "average+slowdown(0.5)", "single(2)+slowdown(1e-05)"]:
        assert str(objective(name)) == name
    assert exit_names(2) == ["exit_1", "exit_2"]
