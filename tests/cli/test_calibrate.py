"""Other thresholds and temperatures for a finished run, and calibrations that are cut short."""

import json
import shutil

import keras
import numpy as np
import pytest
import yaml

import rdi_keras as rdi
from rdi_keras.cli import calibrate, evaluate, fit
from rdi_keras.metadata import Metadata
from rdi_keras.runs import RunFolder
from tests.cli.halves import FAST, where


@pytest.fixture(scope="module")
def finished(image_folder, tmp_path_factory):
    """A run that is trained and was never measured."""
    folder = tmp_path_factory.mktemp("trained")
    data = [f"--data.name=folder:{image_folder}", "--training.batch_size=16"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rdi_keras.cli.fit._measure_and_export", lambda run, *_: run.path)
        assert fit.main([*data, *where(folder), *FAST]) == 0
    return folder / "runs" / "halves"


def test_fit_can_stop_before_the_test_part(finished, image_folder, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "runs" / "halves")
    (run / "twin.keras").unlink()
    options = [f"--data.name=folder:{image_folder}", "--training.batch_size=16", "--resume", *where(tmp_path)]
    options += ["--evaluation.part=calibration", "--evaluation.limit=8", "--evaluation.engine=none"]
    assert fit.main([*options, *FAST]) == 0
    assert "Not exported" in capsys.readouterr().out
    assert not (run / "test_evaluations.jsonl").exists()
    assert list((tmp_path / "saved_models").iterdir()) == []


def test_a_finished_run_gets_other_thresholds_without_a_look_at_the_test_part(finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    before = Metadata.read(run)
    wanted = ["--calibration.budget=0.9", "--calibration.attacked=8", "--calibration.accuracy=0.3"]
    assert calibrate.main([str(run), *wanted]) == 0
    assert "on held-out data accuracy" in capsys.readouterr().out
    after = Metadata.read(run)
    assert after.thresholds != before.thresholds
    assert after.model_digest != before.model_digest
    assert rdi.Predictor(run).thresholds.tolist() == pytest.approx(after.thresholds)
    assert not (run / "test_evaluations.jsonl").exists()
    facts = json.loads((run / "calibration.json").read_text())
    assert facts["method"] == "largest worst case within budget 0.9 at accuracy 0.3 or more"
    assert set(facts["training_seconds"]) == {"model", "twin"}
    assert yaml.safe_load((run / "config.yaml").read_text())["calibration"]["accuracy"] == 0.3
    # What is not named stays.
    assert calibrate.main([str(run), "--calibration.budget=0.8"]) == 0
    facts = json.loads((run / "calibration.json").read_text())
    assert facts["method"] == "largest worst case within budget 0.8 at accuracy 0.3 or more"
    # Shares and a budget exclude each other: what is named last stands.
    for named, method in (
        ("attacked=0", "budget 0.8"),
        ("shares=[0.5,0.25,0.25]", "shares [0.5, 0.25, 0.25]"),
        ("attacked=0", "shares [0.5, 0.25, 0.25]"),
        ("budget=0.7", "budget 0.7"),
    ):
        assert calibrate.main([str(run), f"--calibration.{named}"]) == 0
        assert json.loads((run / "calibration.json").read_text())["method"] == method


def test_a_calibration_that_was_cut_short_is_repeated(finished, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    asked = ["--calibration.budget=0.9", "--calibration.temperature=0.5"]

    def cut(*arguments):
        raise KeyboardInterrupt

    def contents():
        return {each.name: each.read_bytes() for each in run.iterdir() if each.is_file()}

    repeated = f"python training/calibrate.py {run}"
    for place, temperature, said in (
        ("rdi_keras.runs.describe", 4, None),  # Nothing is written yet.
        ("rdi_keras.runs.save_model", 4, f"Repeat it with the same flags: {repeated}"),
        ("rdi_keras.metadata.Metadata.write", 2, f"repeat it with the same flags: {repeated}"),
        ("rdi_keras.runs.save_model", 3, f"repeat it with the same flags: {repeated}"),
    ):
        before = contents()
        with monkeypatch.context() as patched:
            patched.setattr(place, cut)
            with pytest.raises(KeyboardInterrupt):
                calibrate.main([str(run), f"--calibration.temperature={temperature}"])
        if said:
            assert evaluate.main([str(run)]) == 2
            assert said in capsys.readouterr().err
        else:
            assert contents() == before
    # What is refused leaves a calibration that was cut short as visible as it was.
    before = contents()
    assert calibrate.main([str(run), "--calibration.budget=0.001"]) == 2
    assert evaluate.main([str(run)]) == 2
    assert contents() == before
    capsys.readouterr()
    (run / "calibration.json").write_text("{ nonsense")
    assert evaluate.main([str(run)]) == 2
    assert repeated in capsys.readouterr().err
    assert calibrate.main([str(run), *asked]) == 0
    whole = shutil.copytree(finished, tmp_path / "whole")
    assert calibrate.main([str(whole), *asked]) == 0
    ours, theirs = (RunFolder(each).load_model().get_weights() for each in (run, whole))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)
    assert (run / "config.yaml").read_text() == (whole / "config.yaml").read_text()
    tables = [Metadata.read(each).budget_table for each in (run, whole)]
    assert tables[0].budgets == tables[1].budgets
    np.testing.assert_allclose(tables[0].thresholds, tables[1].thresholds, rtol=1e-3)


def test_another_model_is_no_calibration_that_was_cut_short(finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    foreign = RunFolder(run).load_model()
    foreign.thresholds.assign(np.full_like(foreign.thresholds.numpy(), 0.125))
    foreign.save(run / "model.keras")
    assert calibrate.main([str(run)]) == 2
    error = capsys.readouterr().err
    assert "is another model: its weights are" in error
    assert error.strip().endswith("Train the run again")


def test_a_calibration_that_is_gone_is_made_anew(finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "a run")
    (run / "calibration.json").unlink()
    assert evaluate.main([str(run)]) == 2
    assert f"Write it anew: python training/calibrate.py '{run}'" in capsys.readouterr().err
    assert calibrate.main([str(run)]) == 0
    assert RunFolder.open(run).read_calibration()["n"] > 0


def test_what_is_null_is_taken_away_but_for_a_temperature(finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    wanted = ["--calibration.shares=[0.5,0.25,0.25]", "--calibration.temperature=2"]
    assert calibrate.main([str(run), *wanted]) == 0
    assert calibrate.main([str(run), "--calibration.shares=null"]) == 0
    method = json.loads((run / "calibration.json").read_text())["method"]
    assert method == "budget 0.55, temperature 2"
    assert calibrate.main([str(run), "--calibration.temperature=null"]) == 2
    assert "were scaled, which stays. Received: calibration.temperature null" in capsys.readouterr().err


def test_a_twin_is_not_scaled_where_it_shares_the_last_exit(finished, image_folder, tmp_path, monkeypatch):
    options = [f"--data.name=folder:{image_folder}", "--training.batch_size=16", f"--model.trunk={finished}"]
    options += ["--calibration.temperature=0.5"]
    monkeypatch.setattr("rdi_keras.cli.fit._measure_and_export", lambda run, *_: run.path)
    assert fit.main([*options, *where(tmp_path, "on"), *FAST, "--training.epochs=1"]) == 0
    images = np.random.default_rng(0).uniform(size=(5, 8, 8, 1)).astype(np.float32)
    run = tmp_path / "runs" / "on"
    twin = keras.models.load_model(run / "twin.keras", compile=False)
    before = rdi.Predictor(finished).logits(images)[-1]
    np.testing.assert_allclose(twin.logits(images)[0], before, rtol=1e-4, atol=1e-5)
    ratios = np.asarray(rdi.Predictor(run).logits(images)[-1]) / np.asarray(before)
    np.testing.assert_allclose(ratios, ratios[0, 0], rtol=1e-3)
    assert abs(ratios[0, 0] - 1) > 0.01
    assert json.loads((run / "calibration.json").read_text())["temperature"] == 0.5


def test_a_temperature_is_in_the_facts_and_stays_when_it_is_not_named(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    images = np.random.default_rng(0).uniform(size=(5, 8, 8, 1)).astype(np.float32)
    before = rdi.Predictor(run).logits(images)
    for command in (["--calibration.temperature=0.5"], ["--calibration.budget=0.9"]):
        assert calibrate.main([str(run), *command]) == 0
        facts = json.loads((run / "calibration.json").read_text())
        assert facts["temperature"] == 0.5
        assert facts["method"].endswith(", temperature 0.5")
        # What is saved answers as it did, with other logits.
        for ours, theirs in zip(rdi.Predictor(run).logits(images), before, strict=True):
            ratios = np.asarray(ours) / np.asarray(theirs)
            np.testing.assert_allclose(ratios, ratios[0, 0], rtol=1e-3)
            assert ratios[0, 0] > 0
