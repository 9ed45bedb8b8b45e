"""Suites on a trained network: the same figures in one go, in other batches, and taken up again."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from rdi_keras.attacks import PGD, WRM, Attack, Square, objective, pgd
from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.evaluation import EVERYONE, STANDING, Entry, FolderShelf, judge, run_suite, suite
from rdi_keras.inference import cost_table

EPSILON = 0.1
SHORT = [
    Entry("average", Attack(objective("average"), pgd(EPSILON, 5)), EVERYONE),
    Entry("exit_aware", Attack(objective("exit_aware"), pgd(EPSILON, 5, restarts=2)), EVERYONE),
    Entry("targeted_exit(1)", Attack(objective("targeted_exit(1)"), pgd(EPSILON, 5)), STANDING),
    Entry("square", Attack(objective("exit_aware_margin"), Square(EPSILON, 20)), STANDING),
    Entry("slowdown", Attack(objective("slowdown"), pgd(EPSILON, 5)), EVERYONE),
]


@pytest.fixture(scope="module")
def run(digits, few):
    """Runs a suite on the model; compiled loops are shared, which saves most of the time."""
    model, _ = digits
    loops = {}

    def run(entries=SHORT, batch_size=60, **options):
        return run_suite(model, model.thresholds.numpy(), few, entries, batch_size, loops=loops, **options)

    return run


@pytest.fixture(scope="module")
def whole(run):
    return run()


def assert_same(one, other):
    assert list(one.outcomes) == list(other.outcomes)
    for name, each in one.outcomes.items():
        for field in dataclasses.fields(each):
            np.testing.assert_array_equal(
                getattr(each, field.name), getattr(other.outcomes[name], field.name)
            )


def test_conditions_of_a_trained_model(digits, few, whole):
    model, _ = digits
    outcomes = whole.outcomes
    assert list(outcomes) == ["clean", *(entry.name for entry in SHORT), "worst_case"]
    accuracy = {name: each.summary(cost_table(model))["accuracy"] for name, each in outcomes.items()}
    assert accuracy["clean"] > 0.8
    assert accuracy["worst_case"] <= min(accuracy.values())
    assert accuracy["average"] < accuracy["clean"]
    for entry in SHORT[:-1]:  # The clean image is a candidate of every attack on the answer.
        assert not (outcomes[entry.name].correct & ~outcomes["clean"].correct).any()
    expected = judge(model, few.images, few.labels, model.thresholds.numpy()).correct
    np.testing.assert_array_equal(outcomes["clean"].correct, expected)


def test_the_standing_alone_are_attacked_and_the_others_stay_broken(whole, few):
    outcomes, attacked = whole.outcomes, whole.attacked
    assert attacked["average"] == attacked["slowdown"] == len(few)
    broken = ~(outcomes["clean"].correct & outcomes["average"].correct & outcomes["exit_aware"].correct)
    assert attacked["targeted_exit(1)"] == (~broken).sum() < len(few)
    assert not outcomes["targeted_exit(1)"].correct[broken].any()
    assert attacked["square"] == outcomes["targeted_exit(1)"].correct.sum()


def test_slowdown_makes_samples_leave_late(digits, whole):
    cost = cost_table(digits[0])
    clean, slow = (whole.outcomes[name].summary(cost) for name in ("clean", "slowdown"))
    assert slow["efficacy"] < clean["efficacy"] - 0.1
    assert (whole.outcomes["slowdown"].exit >= whole.outcomes["clean"].exit).all()
    assert whole.outcomes["worst_case"].exit.min() >= whole.outcomes["slowdown"].exit.min()


def test_the_batch_size_does_not_matter(run, whole):
    assert_same(whole, run(batch_size=17))


def test_passes_are_counted(whole, few):
    forward, backward = whole.passes["average"]
    assert backward <= 5 * len(few)
    assert forward <= (5 + 2 + 1) * len(few)
    assert whole.passes["square"] == (whole.attacked["square"] * (20 + 1 + 1 + 1), 0)


@pytest.mark.parametrize("stop_after", [1, 6, 13])
def test_an_interrupted_run_goes_on_and_ends_alike(run, whole, tmp_path, stop_after):
    shelf = FolderShelf(tmp_path, {"model": "tiny"})
    seen = []

    def interrupt(condition, size):
        seen.append(condition)
        if len(seen) == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(batch_size=17, shelf=shelf, on_batch=interrupt)
    assert len(shelf) == stop_after
    written = {path: path.stat().st_mtime_ns for path in shelf.folder.iterdir()}
    assert_same(run(batch_size=17, shelf=shelf), whole)
    assert {path: path.stat().st_mtime_ns for path in written} == written, "finished batches are not redone"


def test_a_damaged_batch_is_run_again_and_every_evaluation_has_its_own_shelf(run, tmp_path):
    shelf, other = FolderShelf(tmp_path, {"seed": 0}), FolderShelf(tmp_path, {"seed": 1})
    first = run(SHORT[:1], 30, shelf=shelf)
    assert len(shelf) == 4
    assert len(other) == 0
    next(shelf.folder.glob("average-*.npz")).write_bytes(b"PK nothing")
    assert_same(first, run(SHORT[:1], 30, shelf=shelf))


def test_larger_budgets_break_more_and_the_largest_everything(run):
    worst = []
    for epsilon in (0.0, 0.1, 0.2, 0.6):
        entries = [Entry("exit_aware", Attack(objective("exit_aware"), PGD(epsilon, 20, epsilon / 8)))]
        outcomes = run(entries).outcomes
        worst.append(outcomes["worst_case"].correct.mean())
    assert worst == sorted(worst, reverse=True)
    assert worst[0] > 0.8
    assert worst[-1] == 0


def test_an_attack_that_leaves_its_ball_is_not_believed(run):
    class Cheat(PGD):
        def step(self, number, iterate, loss, gradient, images, memory):
            return tf.clip_by_value(iterate + 0.1 * tf.sign(gradient), 0, 1), memory

    entries = [Entry("cheat", Attack(objective("main"), Cheat(0.1, num_steps=4, step_size=0.1)))]
    with pytest.raises(ArithmeticError, match="left its ball"):
        run(entries)


def test_attacks_of_another_ball_do_not_enter_a_suite(run):
    far = Entry("l2", Attack(objective("main"), PGD(3, 2, 1, norm="l2")))
    wider = Entry("wider", Attack(objective("main"), pgd(0.2, 2)))
    for entries in ([far], [*SHORT, wider], [Entry("wrm", Attack(objective("main"), WRM(0.1, 2)))]):
        with pytest.raises(InputError, match="must share one L∞ ball"):
            run(entries)


def test_every_attack_of_full_runs(digits):
    """With few steps; benchmarks/suites.py measures what `full` breaks beyond `standard`."""
    model, unseen = digits
    entries = []
    for entry in suite("full", EPSILON):
        solver = dataclasses.replace(entry.attack.solver, num_steps=min(entry.attack.solver.num_steps, 5))
        entries.append(dataclasses.replace(entry, attack=dataclasses.replace(entry.attack, solver=solver)))
    conditions = run_suite(model, model.thresholds.numpy(), unseen.first(15), entries)
    outcomes = conditions.outcomes
    assert list(outcomes) == ["clean", *(entry.name for entry in entries), "worst_case"]
    assert outcomes["worst_case"].correct.sum() < outcomes["clean"].correct.sum()
    broken = outcomes["clean"].correct.sum() - outcomes["worst_case"].correct.sum()
    for entry in entries:
        everyone = entry.on == EVERYONE
        assert conditions.attacked[entry.name] >= (15 if everyone else outcomes["worst_case"].correct.sum())
        if everyone and entry.name != "slowdown":
            assert outcomes["clean"].correct.sum() - outcomes[entry.name].correct.sum() <= broken


def test_everybody_broken_leaves_nothing_to_attack():
    class Wrong:
        num_exits, num_classes = 2, 3

        def logits(self, images, up_to=None):
            flat = tf.reshape(images, [-1, 1]) * 0 + tf.constant([[1.0, 0.0, 0.0]])
            return [flat] * (up_to or 2)

    data = Split(np.zeros([5, 1, 1, 1], np.float32), np.ones(5, np.int64))
    conditions = run_suite(Wrong(), [0.0], data, SHORT)
    assert conditions.attacked["square"] == 0
    assert conditions.passes["square"] == (0, 0)
    assert conditions.outcomes["worst_case"].correct.sum() == 0
