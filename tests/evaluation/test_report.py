import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from rdi_keras import evaluation
from rdi_keras.data import load_digits
from rdi_keras.errors import InputError
from rdi_keras.evaluation import Conditions, Outcome
from rdi_keras.inference import CostTable
from rdi_keras.metadata import Metadata
from rdi_keras.presets import PRESETS
from rdi_keras.serving import Predictor

COST, TWIN_COST = CostTable((10, 20, 30), (1, 2, 4)), CostTable((60,), (4,))
METADATA = Metadata(
    class_names=[str(digit) for digit in range(10)],
    input_shape=[8, 8, 1],
    thresholds=[0.5, 0.25],
    macs_per_exit=COST.cumulative,
    macs_backbone=COST.backbone,
    dataset="digits",
    epsilon="8/255",
    preset="digits",
    model_digest="ab" * 32,
    package_version="0",
)
SAVED_MODELS = Path(__file__).parents[2] / "saved_models"


def outcomes(num_exits):
    random = np.random.default_rng(num_exits)
    names = ("clean", "exit_aware", "worst_case")
    found = {
        name: Outcome(
            random.random(20) < 0.8 - 0.2 * position,
            random.integers(1, num_exits + 1, 20, dtype=np.int32),
            random.random((20, num_exits)) < 0.7,
        )
        for position, name in enumerate(names)
    }
    return Conditions(found, attacked={"exit_aware": 20}, passes={"exit_aware": (440, 400)})


FLAG = {"name": "zero_gradients", "value": 0.25, "message": "The loss has no gradient"}


def build(twin=True, flags=(), curves=None, second_opinions=None) -> dict:
    return evaluation.build_report(
        METADATA,
        load_digits(),
        "test",
        20,
        "quick",
        seed=0,
        calibration={"n": 144, "accuracy": 0.9, "mean_macs": 40.0, "saving": 0.4, "exit_shares": [0.3] * 3},
        test_evaluations=1,
        model=(outcomes(3), COST),
        twin=(outcomes(1), TWIN_COST) if twin else None,
        flags=list(flags),
        curves=curves,
        second_opinions=second_opinions,
    )


def test_written_and_read_it_is_the_same(tmp_path):
    report = build()
    evaluation.write_report(report, tmp_path)
    assert evaluation.read_report(tmp_path, METADATA) == report
    assert report["epsilon"] == 8 / 255
    assert report["epsilon_text"] == "8/255"
    assert report["baseline"]["conditions"]["clean"]["saving"] == 0


def test_a_report_for_another_model_is_refused(tmp_path):
    evaluation.write_report(build(), tmp_path)
    other = dataclasses.replace(METADATA, model_digest="cd" * 32)
    with pytest.raises(InputError, match="report for another model: it names weights abab"):
        evaluation.read_report(tmp_path, other)


def test_no_report_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"training/evaluate\.py"):
        evaluation.read_report(tmp_path, METADATA)
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(InputError, match="Cannot read"):
        evaluation.read_report(tmp_path, METADATA)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda report: report.pop("thresholds"), "'thresholds' is a required property"),
        (lambda report: report.update(schema_version=2), "schema_version: 1 was expected"),
        (lambda report: report["conditions"].pop("worst_case"), "conditions: 'worst_case' is a required"),
        (lambda report: report["conditions"]["clean"].update(accuracy=97.0), "conditions/clean/accuracy"),
        (lambda report: report["thresholds"].append(1.0), "3 exits has 2 thresholds. Received: 3"),
        (lambda report: report["conditions"]["clean"]["exit_shares"].pop(), "3 exit shares. Received: 2"),
    ],
)
def test_what_breaks_the_contract_is_named(spoil, said):
    report = copy.deepcopy(build())
    spoil(report)
    with pytest.raises(InputError, match=said):
        evaluation.validate(report)


def test_markdown_and_table_show_every_figure():
    report = build()
    text = evaluation.markdown(report, ["accuracy.png"])
    for condition in report["conditions"].values():
        assert f"| {100 * condition['accuracy']:.1f} |" in text
        assert f"{condition['mean_macs']:,.0f}" in text
    assert "![accuracy](accuracy.png)" in text
    assert len(evaluation.rich_table(report).rows) == 3


def test_every_accuracy_has_its_interval_and_every_attack_its_passes():
    report = build()
    for condition in report["conditions"].values():
        low, high = condition["interval"]
        assert low < condition["accuracy"] < high
    assert report["conditions"]["exit_aware"]["forward_passes"] == 440
    assert "440 forward and 400 backward through the model" in evaluation.markdown(report)


def test_doubts_stand_in_the_report_and_so_does_their_absence():
    assert "NOT TO BE BELIEVED (zero_gradients): The loss has no gradient." in evaluation.markdown(
        build(flags=[FLAG])
    )
    assert "No sign of masked gradients" in evaluation.markdown(build())


def test_second_opinions_stand_apart():
    linf = {"library": "a", "version": "1", "threat_model": "linf", "num_samples": 9, "accuracy": 0.5}
    linf |= {"clean_accuracy": 0.9, "suite_accuracy": 0.4}
    l2 = linf | {"threat_model": "l2", "l2_budget": 0.5, "accuracy_in_budget": 0.75}
    report = build(second_opinions={"theirs": linf, "other": l2})
    text = evaluation.markdown(report)
    assert (
        "Second opinion `theirs` (a 1, linf): 50.0 % of 9 samples right, clean 90.0 %, under the suite 40.0 %"
        in text
    )
    assert "no part of the worst case: 75.0 % within L2 0.5" in text
    assert report["conditions"] == build()["conditions"]


def test_without_a_twin_nothing_is_compared():
    text = evaluation.markdown(build(twin=False))
    assert "the one-exit twin" not in text
    assert "| – |" in text


def test_figures_are_written(tmp_path):
    names = evaluation.write_figures(build(), tmp_path)
    assert names
    for name in names:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


SHIPPED = [SAVED_MODELS / name / "1" for name in PRESETS]


@pytest.mark.parametrize("version", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_shipped_models_keep_the_contract(version):
    metadata = Metadata.read(version)
    report = evaluation.read_report(version, metadata)
    assert report["macs_per_exit"] == metadata.macs_per_exit
    assert report["thresholds"] == metadata.thresholds
    assert metadata.package_version != "unknown"
    assert (version / "report.md").read_text() == evaluation.markdown(report, evaluation.figure_names(report))
    assert (version / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0
    for condition in report["conditions"].values():
        mean = float(np.dot(condition["exit_shares"], report["macs_per_exit"]))
        assert condition["mean_macs"] == pytest.approx(mean)
        assert condition["saving"] == pytest.approx(1 - mean / report["macs_backbone"])
        assert report["conditions"]["worst_case"]["accuracy"] <= condition["accuracy"]
    json.dumps(report, allow_nan=False)


def test_the_shipped_digits_model_is_what_its_report_says():
    report = json.loads((SHIPPED[0] / "report.json").read_text())
    test = load_digits().test
    prediction = Predictor(SHIPPED[0]).predict(test.images)
    clean = report["conditions"]["clean"]
    assert report["n"] == len(test)
    assert np.mean(prediction.label == test.labels) == pytest.approx(clean["accuracy"])
    assert prediction.macs.mean() == pytest.approx(clean["mean_macs"], rel=1e-5)
    shares = np.bincount(prediction.exit, minlength=4)[1:] / len(test)
    np.testing.assert_allclose(shares, clean["exit_shares"], atol=1e-9)
