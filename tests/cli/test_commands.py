"""The commands from data to SavedModel, and what they say to bad input."""

import json
import shutil

import keras
import numpy as np
import pytest
import yaml

import rdi_keras as rdi
from rdi_keras import evaluation
from rdi_keras.cli import evaluate, export, fit
from rdi_keras.metadata import Metadata
from rdi_keras.runs import RunFolder
from tests.cli.halves import FAST, NO_EXTRAS, where


def test_fit_leaves_the_run_folder_of_the_contract(finished):
    run = finished / "runs" / "halves"
    expected = {
        *("config.yaml", "environment.json", "metadata.json", "model.keras", "twin.keras"),
        *("history.csv", "twin_history.csv", "calibration.json", "test_evaluations.jsonl"),
        *("report.json", "report.md", "accuracy.png", "exit_shares.png", "logs"),
    }
    assert {each.name for each in run.iterdir()} == expected
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 0
    assert environment["packages"]["tensorflow"]
    assert yaml.safe_load((run / "config.yaml").read_text())["training"]["epochs"] == 2
    assert (run / "history.csv").read_text().count("\n") == 3
    assert list((run / "logs" / "model").rglob("events.out.tfevents*"))


def test_report_counts_looks_and_compares_with_the_twin(finished):
    run = finished / "runs" / "halves"
    report = evaluation.read_report(run, Metadata.read(run))
    assert report["test_evaluations"] == 1
    assert report["n"] == 24
    assert len(report["macs_per_exit"]) == 3
    assert report["baseline"]["macs_per_exit"] == [report["macs_backbone"]]
    assert set(report["baseline"]["conditions"]) == set(report["conditions"])


def test_exported_model_answers_as_the_run_does(finished, image_folder):
    images = rdi.data.load(f"folder:{image_folder}").test.images
    run, saved = (rdi.Predictor(finished / folder / "halves") for folder in ("runs", "saved_models"))
    assert saved.metadata == run.metadata
    assert run.metadata.class_names == ["bottom", "top"]
    answers = zip(vars(run.predict(images)).values(), vars(saved.predict(images)).values(), strict=True)
    for ours, theirs in answers:
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_evaluate_again_counts_another_look_and_export_makes_version_2(finished, capsys):
    run = finished / "runs" / "halves"
    more = ["--engine=none", "--curve_samples=5", "--second_opinions=[cleverhans_pgd]", "--opinion_samples=5"]
    assert evaluate.main([str(run), "--limit=10", "--epsilon=8/255", *more]) == 0
    report = evaluation.read_report(run, Metadata.read(run))
    assert report["curves"]["n"] == report["second_opinions"]["cleverhans_pgd"]["num_samples"] == 5
    figures = {"front.png", "curve_epsilon.png", "curve_num_steps.png", "curve_threshold_scale.png"}
    assert figures | {"curves.html"} <= {each.name for each in run.iterdir()}
    assert (report["n"], report["test_evaluations"], report["epsilon_text"]) == (10, 2, "8/255")
    assert "worst case" in capsys.readouterr().out
    assert export.main([str(run), f"--out={finished}/saved_models/halves"]) == 0
    version = rdi.Predictor(finished / "saved_models" / "halves").path
    assert version.name == "2"
    assert figures <= {each.name for each in version.iterdir()}
    assert not (version / "curves.html").exists(), "megabytes of a drawing library"


def test_an_interrupted_evaluation_goes_on_and_is_one_look(finished, tmp_path, monkeypatch):
    run = shutil.copytree(finished / "runs" / "halves", tmp_path / "run")
    looks = len((run / "test_evaluations.jsonl").read_text().splitlines())

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "find_flags", interrupt)
        with pytest.raises(KeyboardInterrupt):
            evaluate.main([str(run), *NO_EXTRAS])
    assert list((run / "evaluation").rglob("clean-0.npz"))
    with RunFolder(run).locked():
        assert evaluate.main([str(run), *NO_EXTRAS]) == 2
    with monkeypatch.context() as patched:
        patched.setattr("rdi_keras.evaluation.cascade.judge", interrupt)  # Nothing is judged again.
        assert evaluate.main([str(run), *NO_EXTRAS]) == 0
    assert len((run / "test_evaluations.jsonl").read_text().splitlines()) == looks + 1
    assert not (run / "evaluation").exists()
    assert not (run / "front.png").exists(), "a figure of another report"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset=nope"], "Unknown preset 'nope'. Allowed: digits"),
        (["--data.name=no_such_set"], "Unknown data set 'no_such_set'. Allowed: digits"),
        (["--data.name=folder:missing"], "No folder of images at 'missing'"),
        (["--model.backbone=vgg"], "Unknown backbone 'vgg'. Allowed: mobilenet_v2, resnet110"),
        (["--model.exits_after=[7]"], "convolutions 1 to 4"),
        (["--training.attack.objective=nope"], "Unknown attack objective 'nope'. Allowed: main"),
        (["--training.attack.objective=single(9)"], "exit 9, but the model has exits 1 to 3"),
        (["--epsilon=-0.1"], "between 0 and 1"),
        (["--epsilon=2"], "between 0 and 1"),
        (["--training.attack.step_size=fast"], "training.attack.step_size must be a number or a fraction"),
        (["--training.epochs=0"], "training.epochs must be at least 1. Received: 0"),
        (["--training.optimizer=magic"], "Unknown optimizer 'magic'. Allowed: adam, sgd"),
        (["--training.exit_weights=[1]"], "3 exits and takes as many exit weights"),
        (["--calibration.shares=[0.5,0.5]"], "must be 3 fractions"),
        (["--calibration.budget=0.01"], "cannot be met"),
        (["--data.train_limit=0"], "data.train_limit must be at least 1. Received: 0"),
        (["--training.learning_rate=-1"], "training.learning_rate must be at least 1e-12. Received: -1.0"),
        (["--training.pad_crop=-1"], "training.pad_crop must be at least 0. Received: -1"),
        (["--seed=-1"], "seed must be at least 0 and at most 4294967295. Received: -1"),
        (["--data.image_size=16"], "The digits are 8×8 and are not resized"),
        (["--evaluation.batch_size=0"], "evaluation.batch_size must be at least 1. Received: 0"),
        (["--evaluation.suite=easy"], "Unknown attack suite 'easy'. Allowed: quick, standard, full"),
    ],
)
def test_fit_refuses_bad_input_in_one_line_and_writes_nothing(arguments, said, tmp_path, capsys):
    assert fit.main([*where(tmp_path), *FAST, *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_found_before_training(tmp_path, capsys):
    (tmp_path / "saved_models").write_text("a file in the way")
    assert fit.main([*where(tmp_path), *FAST]) == 2
    assert "Cannot write to the folder" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["saved_models"]


def test_a_finished_run_is_not_replaced_unasked(finished, capsys):
    before = (finished / "runs" / "halves" / "model.keras").read_bytes()
    assert fit.main([*where(finished), *FAST]) == 2
    assert "holds a finished run. Measure and export what is missing: --resume" in capsys.readouterr().err
    assert (finished / "runs" / "halves" / "model.keras").read_bytes() == before


def test_divergence_is_one_line_and_status_1(tmp_path, capsys):
    assert fit.main(["--training.learning_rate=1e30", *where(tmp_path), *FAST]) == 1
    assert "error: Training stopped at step" in capsys.readouterr().err
    assert list((tmp_path / "saved_models").iterdir()) == []


def test_calibration_data_are_measured_without_a_look_at_the_test_part(finished, tmp_path, capsys):
    run = shutil.copytree(finished / "runs" / "halves", tmp_path / "run")
    (run / "twin.keras").unlink()
    before = {each: (run / each).read_bytes() for each in ("report.json", "test_evaluations.jsonl")}
    other = evaluation.FolderShelf(run / "evaluation", {"another": "evaluation"})
    assert evaluate.main([str(run), "--part=calibration", *NO_EXTRAS]) == 0
    assert "calibration[:10]" in capsys.readouterr().out
    assert [each.name for each in (run / "evaluation").iterdir()] == [other.folder.name]
    assert before == {each: (run / each).read_bytes() for each in before}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--part=all"], "Unknown part 'all'. Allowed: test, calibration"),
        (["--limit=0"], "evaluation.limit must be at least 1. Received: 0"),
        (["--suite=easy"], "Unknown attack suite 'easy'. Allowed: quick, standard, full"),
        (["--second_opinions=[mine]"], "Unknown second opinion 'mine'. Allowed: cleverhans_pgd"),
        (["--curve_samples=-1"], "evaluation.curve_samples must be at least 0. Received: -1"),
        (["--epsilon=7"], "between 0 and 1"),
        (["--epsilon="], "a number or a fraction"),
        (["--nonsense=1"], "nonsense"),
    ],
)
def test_evaluate_refuses_bad_input_and_counts_no_look(finished, arguments, said, capsys):
    run = finished / "runs" / "halves"
    looks = (run / "test_evaluations.jsonl").read_text()
    assert evaluate.main([str(run), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert (run / "test_evaluations.jsonl").read_text() == looks


@pytest.mark.parametrize("tool", [evaluate, export])
def test_no_run_is_refused(tool, tmp_path, capsys):
    assert tool.main([str(tmp_path)]) == 2
    assert "is not a finished run folder: it lacks model.keras" in capsys.readouterr().err


@pytest.mark.parametrize("tool", [evaluate, export])
def test_another_model_under_the_runs_name_is_refused(tool, finished, tmp_path, capsys):
    run = shutil.copytree(finished / "runs" / "halves", tmp_path / "run")
    model = keras.models.load_model(run / "model.keras", compile=False)
    model.thresholds.assign([9.0, 9.0])
    model.save(run / "model.keras")
    arguments = [f"--out={tmp_path}/out"] if tool is export else []
    assert tool.main([str(run), *arguments]) == 2
    assert "is another model: its weights are" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(rdi.InputError, match="is another model"):
        rdi.Predictor(run)


@pytest.mark.parametrize("name", ["calibration.json", "config.yaml", "metadata.json"])
def test_damaged_run_files_are_one_line_and_no_look(finished, tmp_path, name, capsys):
    run = shutil.copytree(finished / "runs" / "halves", tmp_path / "run")
    looks = (run / "test_evaluations.jsonl").read_text()
    (run / name).write_text("{ nonsense")
    assert evaluate.main([str(run)]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
    assert (run / "test_evaluations.jsonl").read_text() == looks


def test_export_refuses_a_report_for_another_model(finished, tmp_path, capsys):
    run = finished / "runs" / "halves"
    text = (run / "report.json").read_text()
    report = json.loads(text)
    report["model_digest"] = "0" * 64
    try:
        (run / "report.json").write_text(json.dumps(report))
        assert export.main([str(run), f"--out={tmp_path}/out"]) == 2
    finally:
        (run / "report.json").write_text(text)
    assert "report for another model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
