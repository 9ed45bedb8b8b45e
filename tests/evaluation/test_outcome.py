import numpy as np
import pytest
import tensorflow as tf

from rdi_keras.attacks import PGD, Attack, objective
from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.evaluation import Outcome, judge, run_conditions, suite, worst_of
from rdi_keras.evaluation import outcome as outcome_module
from rdi_keras.inference import CostTable, cost_table

COST = CostTable(segments=(10, 20, 30), heads=(1, 2, 4))


def outcome(correct, exits):
    correct = np.array(correct, bool)
    return Outcome(correct, np.array(exits, np.int32), np.repeat(correct[:, None], 3, axis=1))


def test_summary_by_hand():
    summary = outcome([1, 1, 0, 1], [1, 3, 3, 2]).summary(COST)
    # Cumulative: 11, 33, 67. The backbone without side exits: 64.
    assert summary["accuracy"] == 0.75
    assert summary["mean_macs"] == (11 + 67 + 67 + 33) / 4
    assert summary["saving"] == pytest.approx(1 - 44.5 / 64)
    assert summary["exit_shares"] == [0.25, 0.25, 0.5]


def test_worst_case_survives_everything_and_costs_the_most():
    clean = outcome([1, 1, 1, 0], [1, 1, 3, 1])
    attacked = [outcome([1, 0, 1, 1], [1, 2, 1, 1]), outcome([1, 1, 0, 1], [2, 1, 1, 1])]
    worst = worst_of(clean, attacked)
    np.testing.assert_array_equal(worst.correct, [True, False, False, False])
    np.testing.assert_array_equal(worst.exit, [2, 2, 1, 1])


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_suites_hold_what_the_contract_lists(name):
    attacks = suite(name, 0.1)
    steps = {each: (attack.solver.num_steps, attack.solver.restarts) for each, attack in attacks.items()}
    if name == "quick":
        assert set(steps) == {"exit_aware", "average", "max_average", "targeted_exit(2)"}
        assert set(steps.values()) == {(20, 1)}
    else:
        assert steps.pop("targeted_exit") == (20, 1)
        assert set(steps) == {"main", "average", "max_average", "exit_aware"}
        assert set(steps.values()) == {(40, 2)}
    assert {attack.solver.epsilon for attack in attacks.values()} == {0.1}


def test_unknown_suite_is_refused():
    with pytest.raises(InputError, match="Unknown attack suite 'easy'. Allowed: quick, standard"):
        suite("easy", 0.1)


def test_conditions_of_a_trained_model(digits, few):
    model, _ = digits
    attacks = suite("quick", 0.1)
    thresholds = model.thresholds.numpy()
    outcomes = run_conditions(model, thresholds, few, attacks, batch_size=25)

    assert list(outcomes) == ["clean", *attacks, "worst_case"]
    accuracy = {name: each.summary(cost_table(model))["accuracy"] for name, each in outcomes.items()}
    assert accuracy["clean"] > 0.8
    assert accuracy["worst_case"] <= min(accuracy.values())
    assert all(accuracy[name] < accuracy["clean"] for name in attacks)
    for name in attacks:  # The clean image is a candidate of every attack.
        assert not (outcomes[name].correct & ~outcomes["clean"].correct).any()
    np.testing.assert_array_equal(
        outcomes["clean"].correct, judge(model, few.images, few.labels, thresholds).correct
    )


def test_larger_budgets_break_more_and_the_largest_everything(digits, few):
    model, _ = digits
    worst = []
    for epsilon in (0.0, 0.1, 0.2, 0.6):
        attacks = {"exit_aware": Attack(objective("exit_aware"), PGD(epsilon, 20, epsilon / 8))}
        outcomes = run_conditions(model, model.thresholds.numpy(), few, attacks)
        worst.append(outcomes["worst_case"].correct.mean())
    assert worst == sorted(worst, reverse=True)
    assert worst[0] > 0.8
    assert worst[-1] == 0


def test_an_attack_that_leaves_its_ball_is_not_believed(digits, few):
    class Cheat(PGD):
        def project(self, candidate, images):
            return tf.clip_by_value(candidate, 0, 1)

    model, _ = digits
    attacks = {"cheat": Attack(objective("main"), Cheat(0.1, num_steps=4, step_size=0.1))}
    with pytest.raises(ArithmeticError, match="left its ball"):
        run_conditions(model, model.thresholds.numpy(), few, attacks)


def test_every_attack_and_batch_has_a_seed_of_its_own(monkeypatch):
    """More than 1,000 samples: the seeds of one attack's late batches must not be another's."""
    seeds = []

    class Recorder:
        def __init__(self, attack, network):
            self.attack = attack

        def __call__(self, images, labels, thresholds, seed):
            seeds.append(seed)
            return tf.constant(images)

    class Network:
        num_exits, num_classes = 2, 3

        def logits(self, images, up_to=None):
            return [np.zeros([len(images), 3], np.float32)] * 2

    monkeypatch.setattr(outcome_module, "CompiledAttack", Recorder)
    data = Split(np.zeros([2500, 1, 1, 1], np.float32), np.zeros(2500, np.int64))
    attacks = {name: Attack(objective(name), PGD(0.1, 1, 0.1)) for name in ("main", "average", "exit_aware")}
    run_conditions(Network(), [0.0], data, attacks, batch_size=250, seed=5)
    assert len(seeds) == 30
    assert len(set(seeds)) == 30
    assert seeds[0] == 5
