"""`fit.py` cut in the middle, told to stop, run twice at once."""

import signal

import keras
import numpy as np
import pytest

import rdi_keras as rdi
from rdi_keras.cli import fit
from rdi_keras.runs import RunFolder

FAST = [
    *("--data.train_limit=128", "--training.epochs=2", "--training.attack.num_steps=1"),
    *("--evaluation.suite=quick", "--evaluation.limit=10", "--evaluation.curve_samples=0"),
    "--evaluation.engine=none",
]


def arguments(folder) -> list[str]:
    return ["--name=cut", f"--runs_dir={folder}/runs", f"--saved_models_dir={folder}/saved_models", *FAST]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder in which the run was never cut."""
    folder = tmp_path_factory.mktemp("whole")
    assert fit.main(arguments(folder)) == 0
    return folder


@pytest.mark.parametrize("steps", [3, 6], ids=["model", "twin"])
def test_told_to_stop_it_saves_and_with_resume_it_ends_as_if_it_had_not_been(
    whole, steps, tmp_path, monkeypatch, capsys
):
    """2 epochs of 2 steps for the model, then as many for the twin."""
    left = [steps]

    def ask(step, logs):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        callback = keras.callbacks.LambdaCallback(on_train_batch_end=ask)
        patched.setattr("rdi_keras.training.fitting.StopOnDivergence", lambda: callback)
        assert fit.main(arguments(tmp_path)) == 0
    assert "stopped by SIGTERM; the same command with --resume goes on from here" in capsys.readouterr().out
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
    assert rdi.Predictor(tmp_path / "saved_models" / "cut").path.name == "1"


def test_resume_of_a_finished_run_does_nothing(whole, capsys):
    run = RunFolder(whole / "runs" / "cut")
    before = run.test_evaluations, (run.path / "report.json").read_text()
    assert fit.main([*arguments(whole), "--resume"]) == 0
    assert "training is finished already" in capsys.readouterr().out
    assert before == (run.test_evaluations, (run.path / "report.json").read_text())
    assert [each.name for each in (whole / "saved_models" / "cut").iterdir()] == ["1"]


def test_resume_without_a_run_starts_one(tmp_path):
    assert fit.main([*arguments(tmp_path), "--resume", "--twin=false"]) == 0
    assert RunFolder(tmp_path / "runs" / "cut").is_finished


def test_a_second_process_in_the_folder_is_refused(tmp_path, capsys):
    with RunFolder(tmp_path / "runs" / "cut").locked():
        assert fit.main(arguments(tmp_path)) == 2
    assert "Another process is working in" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "cut" / "config.yaml").exists()


def test_resume_with_other_settings_is_refused(tmp_path, monkeypatch, capsys):
    def ask(step, logs):
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        callback = keras.callbacks.LambdaCallback(on_train_batch_end=ask)
        patched.setattr("rdi_keras.training.fitting.StopOnDivergence", lambda: callback)
        assert fit.main(arguments(tmp_path)) == 0
    assert "stopped by SIGINT" in capsys.readouterr().out
    assert fit.main([*arguments(tmp_path), "--resume", "--training.learning_rate=0.5"]) == 2
    said = "goes on with its own settings: training.learning_rate is 0.001. Received: 0.5"
    assert said in capsys.readouterr().err
    config = (tmp_path / "runs" / "cut" / "config.yaml").read_text()
    assert "learning_rate: 0.001" in config
