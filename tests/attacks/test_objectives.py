"""What the objectives are, by hand."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_keras.attacks import cross_entropy, dlr, fooled, margin, objective
from rdi_keras.attacks.leaving import ENOUGH, log_room
from rdi_keras.inference import EntropyPolicy, entropy

LABELS = tf.constant([0, 1])


@pytest.fixture
def seen(model, batch):
    """Logits of all exits, labels and the policy."""
    images, labels = batch
    return model.logits(images), tf.constant(labels), EntropyPolicy(model.thresholds)


def test_margin_and_dlr_by_hand():
    logits = tf.constant([[3.0, 1.0, 0.0, -1.0], [3.0, 1.0, 0.0, -1.0]])
    np.testing.assert_allclose(margin(logits, LABELS), [-2.0, 2.0])
    np.testing.assert_allclose(dlr(logits, LABELS), [-2 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(dlr(100 * logits, LABELS), dlr(logits, LABELS), rtol=1e-6)


def test_dlr_of_two_classes_is_finite():
    assert np.isfinite(dlr(tf.constant([[1.0, 0.0], [2.0, 2.0]]), LABELS)).all()


def test_ensemble_is_the_cross_entropy_of_the_mean_probabilities(seen):
    logits, labels, policy = seen
    mean = np.mean([tf.nn.softmax(each) for each in logits], axis=0)
    expected = -np.log(mean[np.arange(len(labels)), labels])
    np.testing.assert_allclose(objective("ensemble").loss(logits, labels, policy), expected, rtol=1e-5)


def test_random_exit_takes_the_loss_of_the_exit_drawn(seen):
    logits, labels, policy = seen
    part = objective("random_exit")
    aim = part.aim(logits, labels, lambda shape, purpose: tf.linspace(0.0, 0.999, len(labels)))
    assert set(aim[:, 1].numpy()) == {0, 1, 2}
    expected = [cross_entropy(logits[k], labels)[row] for row, (_, k) in enumerate(aim.numpy())]
    np.testing.assert_allclose(part.loss(logits, aim, policy), expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_soft_exit_weighs_the_losses_and_becomes_one_of_them(seen, scale):
    """Far above their thresholds all go on to the last exit; far below all leave at the first."""
    logits, labels, _ = seen
    policy = EntropyPolicy(tf.constant([scale, scale]))
    expected = cross_entropy(logits[0 if scale > 1 else -1], labels)
    np.testing.assert_allclose(objective("soft_exit").loss(logits, labels, policy), expected, rtol=0.02)


def test_soft_exit_has_a_gradient_through_the_decision(model, batch):
    images = tf.constant(batch[0])
    policy = EntropyPolicy(model.thresholds)
    with tf.GradientTape() as tape:
        tape.watch(images)
        rooms = log_room(model.logits(images)[0], policy.thresholds[0])
    assert np.abs(tape.gradient(rooms, images)).max() > 0


def test_forced_exit_counts_margin_and_every_decision(seen):
    logits, labels, policy = seen
    part = objective("forced_exit").parts(3, 4)[1]
    rooms = [log_room(each, policy.thresholds[k]) for k, each in enumerate(logits[:2])]
    expected = sum(np.minimum(each, ENOUGH) for each in (margin(logits[1], labels), -rooms[0], rooms[1]))
    np.testing.assert_allclose(part.loss(logits[:2], labels, policy), expected, rtol=1e-5)
    assert part.depth(3) == 2
    np.testing.assert_array_equal(rooms[0] > 0, entropy(logits[0]) < policy.thresholds[0])


def test_the_last_exit_is_forced_by_passing_the_others(seen):
    logits, labels, policy = seen
    part = objective("forced_exit").parts(3, 4)[2]
    rooms = [log_room(each, policy.thresholds[k]) for k, each in enumerate(logits[:2])]
    expected = sum(np.minimum(each, ENOUGH) for each in (margin(logits[2], labels), -rooms[0], -rooms[1]))
    np.testing.assert_allclose(part.loss(logits, labels, policy), expected, rtol=1e-5)


def test_multi_targeted_has_a_part_for_every_exit_and_wrong_class(seen):
    logits, labels, _ = seen
    parts = objective("multi_targeted").parts(3, 4)
    assert len(parts) == 3 * 3
    assert len(objective("multi_targeted(1)").parts(3, 4)) == 3
    assert len(set(parts)) == 3, "ranks share a loop"
    aims = [
        part.aim(logits[: part.depth(3)], labels, None).numpy() for part in parts if part.exit_number == 2
    ]
    assert all(
        sorted([*row, label]) == [0, 1, 2, 3]
        for row, label in zip(np.stack(aims, 1), labels.numpy(), strict=True)
    )


def test_a_target_is_never_the_label(seen):
    logits, labels, _ = seen
    for name in ("targeted", "targeted(2)"):
        aim = objective(name).aim(logits, labels, None).numpy()
        assert (aim != labels.numpy()).all()
    assert (aim[labels.numpy() != 2] == 2).all()


def test_a_class_that_the_model_lacks_is_refused(seen):
    from rdi_keras.errors import InputError

    with pytest.raises(InputError, match="class 9, but the model has classes 0 to 3"):
        objective("targeted(9)").aim(*seen[:2], None)


def expected_of(logits, policy):
    rooms = [
        np.log(entropy(each) + 1e-6) - np.log(policy.thresholds[k] + 1e-6)
        for k, each in enumerate(logits[:2])
    ]
    return np.minimum(rooms, ENOUGH).sum(axis=0)


def test_slowdown_is_highest_at_uniform_side_exits(seen):
    logits, labels, policy = seen
    uniform = [tf.zeros_like(logits[0]), tf.zeros_like(logits[1]), logits[2]]
    goal, unsure = objective("slowdown").parts(3, 4)
    highest = goal.loss(uniform, labels, policy)
    np.testing.assert_allclose(highest, -np.log(4), rtol=1e-6)
    assert (goal.loss(logits, labels, policy) < highest).numpy().all()
    np.testing.assert_allclose(unsure.loss(uniform, labels, policy), expected_of(uniform, policy), rtol=1e-5)
    np.testing.assert_allclose(unsure.loss(logits, labels, policy), expected_of(logits, policy), rtol=1e-5)
    np.testing.assert_allclose(unsure.loss(logits, labels, None), goal.loss(logits, labels, None))
    assert objective("slowdown").parts(1, 4) == []


def test_slowdown_has_what_it_wants_at_the_last_exit(seen):
    logits, labels, policy = seen
    last = np.asarray(policy.exit_of(logits)) == 3
    wrong = np.asarray(fooled(logits, labels, policy))
    np.testing.assert_array_equal(objective("slowdown").reached(logits, labels, policy, 3), last)
    keeping = objective("slowdown_keeping_label")
    np.testing.assert_array_equal(keeping.reached(logits, labels, policy, 3), last & ~wrong)
    assert not np.any(objective("slowdown").reached(logits[:2], labels, policy, 3))
    scores = np.asarray(keeping.score(logits, labels, policy))
    if wrong.any() and not wrong.all():
        assert scores[~wrong].min() > scores[wrong].max()
