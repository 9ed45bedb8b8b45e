"""Which exits are kept, on the digits model that ships."""

import dataclasses
import json

import numpy as np
import pytest

import rdi_keras as rdi
from rdi_keras import deployment, evaluation
from rdi_keras.cli import deploy, fit
from rdi_keras.deployment import choose_deployment
from rdi_keras.errors import InputError
from rdi_keras.inference import LatencyTable
from rdi_keras.models import MultiExitModel, small_cnn
from rdi_keras.runs import RunFolder

# Three exits of which the first costs a tenth, in a table that needs no measuring.
LATENCY = LatencyTable("onnxruntime", 1, [1], [[0.1], [0.9], [1.1]], [1.0])
TINY = ["--training.epochs", "2", "--twin", "false", "--calibration.temperature", "0.5"]


@pytest.fixture(scope="module")
def run(shorter_suite, tmp_path_factory):
    """A short-trained run of three exits, never measured."""
    folder = tmp_path_factory.mktemp("deploy")
    places = ["--runs_dir", str(folder / "runs"), "--saved_models_dir", str(folder / "saved")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rdi_keras.cli.fit._measure_and_export", lambda run, *_: run.path)
        assert fit.main([*TINY, "--name", "short", *places]) == 0
    return folder / "runs" / "short"


@pytest.fixture(scope="module")
def model(run):
    return RunFolder.open(run).load_model()


@pytest.fixture(scope="module")
def held_out():
    return rdi.data.load("digits").calibration


def test_it_is_the_cheapest_choice_that_stands(model, held_out):
    said = []
    chosen = choose_deployment(
        model, held_out, LATENCY, "quick", 0.1, num_attacked=30, tolerance=0.1, say=said.append
    )
    last = chosen.points[0]
    assert last.exits == (3,)
    assert chosen.point.accuracy >= last.accuracy - 0.1
    assert chosen.worst_case >= chosen.last_exit_worst_case - 0.1
    assert chosen.point.cost <= last.cost
    assert list(chosen.model.thresholds.numpy()) == pytest.approx(chosen.point.thresholds)
    assert any("the last exit alone" in line for line in said)
    # What stands is what the whole network says with everybody passing the exits that were dropped.
    kept = chosen.model.logits(held_out.images[:5])
    whole = model.logits(held_out.images[:5])
    for number, logits in zip(chosen.point.exits, kept, strict=True):
        np.testing.assert_allclose(logits, whole[number - 1], atol=1e-5)


@pytest.fixture
def asked(model, held_out, monkeypatch):
    """What a suite was asked, of a suite that finds no attack but refuses everything with side exits."""
    clean = evaluation.run_suite(model, [0, 0], held_out.first(10), [])
    asked = []

    def refuses_side_exits(network, thresholds, *_, **__):
        asked.append((network.num_exits, *np.round(thresholds, 6).tolist()))
        wrong = np.full(10, network.num_exits == 1)
        worst = dataclasses.replace(clean.outcomes["clean"], correct=wrong)
        return dataclasses.replace(clean, outcomes={"worst_case": worst})

    monkeypatch.setattr(deployment.evaluation, "run_suite", refuses_side_exits)
    monkeypatch.setattr(deployment.PolicyAttacks, "__call__", lambda *_: [])
    return asked


def test_where_nothing_stands_the_last_exit_is_left(asked, model, held_out):
    # A negative tolerance asks for more than the last exit gives.
    chosen = choose_deployment(model, held_out, LATENCY, "quick", 0.1, num_attacked=10, tolerance=-1.0)
    assert chosen.point.exits == (3,)
    assert chosen.model.num_exits == 1
    assert chosen.refused == []


def test_what_the_suite_refuses_is_not_tried_again(asked, model, held_out):
    said = []
    chosen = choose_deployment(
        model, held_out, LATENCY, "quick", 0.1, num_attacked=10, tolerance=0.5, say=said.append
    )
    assert chosen.point.exits == (3,)
    assert len(chosen.refused) == len(asked) - 1 > 2
    assert len(set(asked)) == len(asked)
    assert "there may be others" in said[-1] or "no other choice" in said[-1]


def test_what_cannot_be_chosen_from_is_refused(model, held_out):
    with pytest.raises(InputError, match="one that was timed: \\[1\\]. Received: 8"):
        choose_deployment(model, held_out, LATENCY, "quick", 0.1, batch_size=8)
    alone = MultiExitModel.from_backbone(small_cnn((8, 8, 1), 10).without_side_exits())
    with pytest.raises(InputError, match="At least 1 sample must be attacked. Received: 0"):
        choose_deployment(model, held_out, LATENCY, "quick", 0.1, num_attacked=0)
    with pytest.raises(InputError, match="nothing to choose"):
        choose_deployment(alone, held_out, LATENCY, "quick", 0.1)


def test_the_command_writes_a_run_that_opens(run, tmp_path, capsys):
    out = tmp_path / "fast"
    options = ["--suite", "quick", "--attacked", "20", "--tolerance", "0.2", "--num_threads", "1"]
    assert deploy.main([str(run), "--out", str(out), *options]) == 0
    facts = json.loads((out / "deployment.json").read_text())
    assert facts["source"]["run"] == "short"
    assert facts["worst_case"] >= facts["last_exit_worst_case"] - 0.2
    assert len(facts["latency"]["ms_to_exit"]) == 3
    assert len(facts["latency_deployed"]["ms_to_exit"]) == len(facts["source"]["exits"])
    calibration = json.loads((out / "calibration.json").read_text())
    assert calibration["temperature"] == 0.5
    assert calibration["method"] == "deployed for onnxruntime, temperature 0.5"
    predictor = rdi.Predictor(out)
    assert predictor.num_exits == len(facts["source"]["exits"])
    assert deploy.main([str(run), "--out", str(out), *options]) == 2
    assert "holds a finished run" in capsys.readouterr().err
    assert deploy.main([str(run), "--out", str(run), *options, "--overwrite", "true"]) == 2
    assert "another folder than the run's" in capsys.readouterr().err
    assert RunFolder.open(run).is_finished
