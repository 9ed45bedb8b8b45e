"""The report on the page says what the report says."""

import json

import pytest

from app import thresholds, wins


@pytest.fixture(scope="module")
def report(pytestconfig):
    return json.loads((pytestconfig.rootpath / "saved_models/digits/1/report.json").read_text())


def test_headline_and_table_are_the_report(report):
    found = {name: (ours, twin) for name, ours, twin in wins.headline(report)}
    accuracy = 100 * report["conditions"]["worst_case"]["accuracy"]
    assert found["Robust, worst case"][0] == f"{accuracy:.1f} %"
    assert f"{100 * report['baseline']['conditions']['clean']['accuracy']:.1f}" in found["Accuracy (TA)"][1]
    assert len(wins.table(report)) == len(report["conditions"])
    alone = wins.headline(report | {"baseline": None})
    assert {twin for _, _, twin in alone} == {"no twin"}


def test_figures_show_every_condition(report):
    accuracy = wins.accuracy_figure(report)
    assert [each.name for each in accuracy.data] == ["several exits", "one-exit twin"]
    assert list(accuracy.data[0].x) == list(report["conditions"])
    shares = wins.exits_figure(report)
    sums = [sum(column) for column in zip(*(each.y for each in shares.data), strict=True)]
    assert sums == pytest.approx([100] * len(report["conditions"]))
    assert len(wins.curve_figures(report)) == 4
    assert len(wins.accuracy_figure(report | {"baseline": None}).data) == 1


def test_operating_points_are_places_of_the_slider(report):
    points = wins.points(report)
    places = [each.doublings for each in points]
    assert places == sorted(places)
    assert 0 in places
    assert all(thresholds.LATEST <= each <= thresholds.SOONEST for each in places)
    calibrated = next(each for each in points if each.doublings == 0)
    lines = report["curves"]["against"]["threshold_scale"]
    middle = next(each for each in lines["clean"] if each["x"] == 1.0)
    assert f"{100 * middle['accuracy']:.1f} % clean" in calibrated.text
    without = report | {"curves": None}
    assert wins.points(without) == []
    assert wins.curve_figures(without) == {}


def test_published_figures_stand_beside_their_own_data_only(report):
    assert wins.published(report) == []
    assert len(wins.published(report | {"dataset": "mnist", "epsilon": 0.3})) == 4
    assert wins.published(report | {"dataset": "mnist", "epsilon": 0.2}) == []
