"""`fit.py` cut in the middle, told to stop, run twice at once."""

import errno
import json
import os
import shutil
import signal

import keras
import numpy as np
import pytest

import rdi_keras as rdi
from rdi_keras import training
from rdi_keras.cli import calibrate, fit
from rdi_keras.runs import RunFolder

FAST = [
    *("--data.train_limit=128", "--training.epochs=2", "--training.attack.num_steps=1"),
    *("--evaluation.suite=quick", "--evaluation.limit=10", "--evaluation.curve_samples=0"),
    "--evaluation.engine=none",
]


@pytest.fixture
def trained_only(monkeypatch):
    """What is trained is not measured and exported."""
    monkeypatch.setattr("rdi_keras.cli.fit._measure_and_export", lambda run, *_: run.path)


def arguments(folder) -> list[str]:
    return ["--name=cut", f"--runs_dir={folder}/runs", f"--saved_models_dir={folder}/saved_models", *FAST]


def stopped_run(folder, monkeypatch, number: signal.Signals, steps: int) -> None:
    """Runs the command, which gets a signal after so many steps."""
    left = [steps]

    def ask(step, logs):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(number)

    with monkeypatch.context() as patched:
        callback = keras.callbacks.LambdaCallback(on_train_batch_end=ask)
        patched.setattr("rdi_keras.training.fitting.StopOnDivergence", lambda: callback)
        assert fit.main(arguments(folder)) == 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder in which the run was never cut."""
    folder = tmp_path_factory.mktemp("whole")
    assert fit.main(arguments(folder)) == 0
    return folder


@pytest.mark.parametrize(("part", "steps"), [("model", 3), ("twin", 6)])
def test_told_to_stop_it_saves_and_with_resume_it_ends_as_if_it_had_not_been(
    whole, part, steps, tmp_path, monkeypatch, capsys, request
):
    """2 epochs of 2 steps for the model, then as many for the twin; measuring them once is enough."""
    if part == "model":
        request.getfixturevalue("trained_only")
    stopped_run(tmp_path, monkeypatch, signal.SIGTERM, steps)
    assert "stopped by SIGTERM; the state is saved" in capsys.readouterr().out
    assert fit.main(arguments(tmp_path)) == 2
    assert "holds a run that was cut. Go on with it: fit.py with --resume" in capsys.readouterr().err
    run = RunFolder(tmp_path / "runs" / "cut")
    assert not run.is_finished
    assert list(run.checkpoints_path.glob("*.npz"))

    assert fit.main([*arguments(tmp_path), "--resume"]) == 0
    expected = RunFolder(whole / "runs" / "cut")
    for ours, theirs in zip(run.load_model().weights, expected.load_model().weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("history.csv", "twin_history.csv"):
        assert (run.path / name).read_text() == (expected.path / name).read_text()
    assert not run.checkpoints_path.exists()
    if part == "twin":
        assert rdi.Predictor(tmp_path / "saved_models" / "cut").path.name == "1"


def test_resume_of_a_finished_run_does_nothing(whole, capsys):
    run = RunFolder(whole / "runs" / "cut")
    before = run.test_evaluations, (run.path / "report.json").read_text()
    assert fit.main([*arguments(whole), "--resume"]) == 0
    assert "training is finished already" in capsys.readouterr().out
    assert before == (run.test_evaluations, (run.path / "report.json").read_text())
    assert [each.name for each in (whole / "saved_models" / "cut").iterdir()] == ["1"]


def test_a_finished_run_is_not_taken_for_one_with_other_thresholds(whole, capsys):
    others = ["--calibration.temperature=0.5", "--calibration.shares=[0.5,0.25,0.25]"]
    assert fit.main([*arguments(whole), "--resume", *others]) == 2
    error = capsys.readouterr().err
    assert "is finished, with calibration.shares None, calibration.temperature None. Received: " in error
    flags = "--calibration.shares '[0.5, 0.25, 0.25]' --calibration.temperature 0.5"
    assert error.strip().endswith(f"python training/calibrate.py {whole / 'runs' / 'cut'} {flags}")


def test_a_temperature_of_a_finished_run_is_not_taken_away(whole, tmp_path, capsys):
    shutil.copytree(whole / "runs", tmp_path / "runs")
    assert calibrate.main([str(tmp_path / "runs" / "cut"), "--calibration.temperature=2"]) == 0
    assert fit.main([*arguments(tmp_path), "--resume"]) == 2
    assert "calibration.temperature is 2.0. Received: None. Name that one" in capsys.readouterr().err


def test_a_run_that_another_process_has_finished_meanwhile_is_not_trained_again(
    whole, tmp_path, monkeypatch, capsys
):
    build_model = training.build_model

    def finish_and_build(*arguments, **options):
        if not (tmp_path / "runs" / "cut").exists():
            shutil.copytree(whole / "runs" / "cut", tmp_path / "runs" / "cut")
        return build_model(*arguments, **options)

    monkeypatch.setattr(training, "build_model", finish_and_build)
    assert fit.main([*arguments(tmp_path), "--resume"]) == 0
    assert "training is finished already" in capsys.readouterr().out


def test_resume_without_a_run_starts_one(trained_only, tmp_path):
    assert fit.main([*arguments(tmp_path), "--resume", "--twin=false"]) == 0
    assert RunFolder(tmp_path / "runs" / "cut").is_finished


def test_a_second_process_in_the_folder_is_refused(tmp_path, capsys):
    with RunFolder(tmp_path / "runs" / "cut").locked():
        assert fit.main(arguments(tmp_path)) == 2
    assert "Another process is working in" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "cut" / "config.yaml").exists()


def test_resume_with_other_settings_is_refused(tmp_path, monkeypatch, capsys):
    stopped_run(tmp_path, monkeypatch, signal.SIGINT, steps=1)
    assert "stopped by SIGINT" in capsys.readouterr().out
    assert fit.main([*arguments(tmp_path), "--resume", "--training.learning_rate=0.5"]) == 2
    said = "goes on with its own settings: training.learning_rate is 0.001. Received: 0.5"
    assert said in capsys.readouterr().err
    config = (tmp_path / "runs" / "cut" / "config.yaml").read_text()
    assert "learning_rate: 0.001" in config


@pytest.mark.parametrize("name", ["trunk", "weights"])
def test_a_run_does_not_start_from_its_own_folder(whole, name, capsys):
    source = whole / "runs" / "cut"
    assert fit.main([*arguments(whole), "--overwrite=true", f"--model.{name}={source}"]) == 2
    assert f"model.{name} names the run's own folder" in capsys.readouterr().err
    assert (source / "twin.keras").exists()


def test_weights_to_start_from_are_looked_at_before_training_and_not_after_it(
    whole, trained_only, tmp_path, capsys
):
    source, made = tmp_path / "source", tmp_path / "made"
    source.mkdir()
    options = [*arguments(made), f"--model.weights={source}"]
    for name in ("model.keras", "twin.keras"):
        assert fit.main(options) == 2
        assert name in capsys.readouterr().err
        assert not made.exists()
        shutil.copy(whole / "runs" / "cut" / name, source)
    assert fit.main([*options, "--training.learning_rate=1e-4"]) == 0
    finished = (made / "runs" / "cut" / "model.keras").read_bytes()
    # In the way of another run they are looked at just the same.
    (source / "twin.keras").unlink()
    assert fit.main([*options, "--overwrite=true"]) == 2
    assert "no twin.keras for a twin to start from" in capsys.readouterr().err
    assert (made / "runs" / "cut" / "model.keras").read_bytes() == finished
    # What is trained needs them no more.
    shutil.rmtree(source)
    assert fit.main([*options, "--training.learning_rate=1e-4", "--resume"]) == 0
    assert "training is finished already" in capsys.readouterr().out


def test_a_calibration_under_attack_that_asked_for_too_much_is_repeated_without_training(
    trained_only, tmp_path, capsys, monkeypatch
):
    """And with it a probe and EMA."""
    options = [*arguments(tmp_path), "--training.probe=true", "--training.ema=0.9", "--twin=false"]
    options += ["--calibration.attacked=10"]
    assert fit.main([*options, "--calibration.accuracy=1"]) == 2
    error = capsys.readouterr().err
    assert "reach a clean accuracy of 1 on held-out data" in error
    assert "the same command with --resume and another --calibration.accuracy or " in error
    with monkeypatch.context() as patched:
        patched.setattr("rdi_keras.training.loop.TrainingLoop._run_epoch", None)
        assert fit.main([*options, "--calibration.accuracy=null", "--resume"]) == 0
    assert "calibration, round 1: worst case" in capsys.readouterr().out
    run = tmp_path / "runs" / "cut"
    assert "accuracy: null" in (run / "config.yaml").read_text()
    assert "probe_accuracy" in (run / "history.csv").read_text().splitlines()[0]
    calibration = json.loads((run / "calibration.json").read_text())
    assert calibration["attacked"] == 10
    assert calibration["front"]
    assert calibration["training_seconds"]["model"] >= 0
    metadata = json.loads((run / "metadata.json").read_text())
    assert metadata["budget_table"]["budgets"]


def test_resume_and_overwrite_exclude_each_other(tmp_path, capsys):
    assert fit.main([*arguments(tmp_path), "--resume", "--overwrite=true"]) == 2
    assert "Received: both" in capsys.readouterr().err


def test_a_disk_that_is_full_while_it_trains_is_said_and_training_goes_on(tmp_path, capsys, monkeypatch):
    from rdi_keras import files

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        patched.setattr("rdi_keras.cli.resuming.open_run", lambda run, config, resume: None)
        patched.setattr("rdi_keras.runs.RunFolder.finish", lambda *arguments: full(0))
        assert fit.main([*arguments(tmp_path), "--twin=false"]) == 2
    said, error = capsys.readouterr()
    assert "Cannot write the trained model" in error
    assert "Cannot write 'history.csv': No space left on device. Training goes on" in said
    assert "Cannot write the checkpoint" in said
    assert "model, epoch 2/2" in said
