"""Thresholds that hold under attack, on a network of seconds whose first exit is easily fooled."""

import numpy as np
import pytest

from rdi_keras.errors import InputError
from rdi_keras.inference import EntropyPolicy, pareto_front
from rdi_keras.inference.operating_points import OperatingPoint
from rdi_keras.training import calibrate_robustly, robust_budget_table
from tests.training import tiny


@pytest.fixture(scope="module")
def model():
    model = tiny.build()
    tiny.loop(model, None).run()
    return model


@pytest.fixture(scope="module")
def calibrated(model):
    said = []
    found = calibrate_robustly(model, tiny.data(), 0.1, budget=0.9, num_attacked=16, say=said.append)
    return found, model.thresholds.numpy(), said


def test_the_budget_is_met_and_the_facts_are_those_of_the_thresholds(model, calibrated):
    found, thresholds, said = calibrated
    assert found["mean_macs"] <= 0.9 * (found["mean_macs"] / (1 - found["saving"])) + 1e-6
    data = tiny.data()
    answers, _ = EntropyPolicy(thresholds).answer([each.numpy() for each in model.logits(data.images)])
    assert found["accuracy"] == pytest.approx(np.mean(np.argmax(answers, axis=-1) == data.labels))
    assert found["attacked"] == 16
    assert said[0].startswith("calibration, round 1: worst case")


def test_the_front_is_one_and_gives_the_table_by_budget(calibrated):
    points = [OperatingPoint(**each) for each in calibrated[0]["front"]]
    assert points == pareto_front(points)
    table = robust_budget_table(calibrated[0]["front"])
    assert table.budgets == sorted(table.budgets)
    for budget, thresholds in zip(table.budgets, table.thresholds, strict=True):
        point = next(each for each in points if list(each.thresholds) == thresholds)
        assert point.cost <= budget <= point.cost + 1e-4
        assert point.worst_case == max(each.worst_case for each in points if each.cost <= budget)


def test_a_least_accuracy_is_kept_or_refused(model, calibrated):
    most = max(point["accuracy"] for point in calibrated[0]["front"])
    found = calibrate_robustly(model, tiny.data(), 0.1, budget=2.0, num_attacked=8, accuracy=most)
    assert found["accuracy"] >= most
    with pytest.raises(InputError, match=r"reach a clean accuracy of 1.1 on held-out data; the most is"):
        calibrate_robustly(model, tiny.data(), 0.1, budget=2.0, num_attacked=8, accuracy=1.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": 0.001, "num_attacked": 8}, "cannot be met: the first exit costs"),
        ({"budget": 0.9, "num_attacked": 0}, "at least 1 sample to attack. Received: 2 exits, 0 samples"),
    ],
)
def test_what_cannot_be_done_is_refused(model, options, said):
    with pytest.raises(InputError, match=said):
        calibrate_robustly(model, tiny.data(), 0.1, **options)
