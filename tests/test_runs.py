import json

import keras
import numpy as np
import pytest

from rdi_keras import runs
from rdi_keras.cli.options import dump_config
from rdi_keras.data import Dataset, Split
from rdi_keras.errors import InputError
from rdi_keras.inference import cost_table
from rdi_keras.metadata import Metadata, weights_digest
from rdi_keras.presets import Config
from rdi_keras.runs import RunFolder

CALIBRATION = {"method": "budget 0.65", "n": 2}


@pytest.fixture
def finished(tmp_path, tiny_model):
    """A finished run of a calibrated model, whose test part has been looked at twice."""
    run = RunFolder.create(tmp_path / "runs" / "mine", overwrite=False)
    config = Config(epsilon="8/255", preset="mnist")
    (run.path / runs.CONFIG_FILE).write_text(dump_config(config))
    part = Split(np.zeros((2, 6, 6, 1), np.float32), np.zeros(2, np.int64))
    tiny_model.thresholds.assign([0.25, 0.5])
    run.finish(tiny_model, config, Dataset("shapes", tuple("abcd"), part, part, part), CALIBRATION)
    for _ in range(2):
        run.count_test_evaluation("digest", "quick")
    return run


def files(folder):
    return {each.relative_to(folder): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_a_finished_run_says_all_of_its_model(finished, tiny_model):
    run = RunFolder.open(str(finished.path))
    cost = cost_table(tiny_model)
    metadata = Metadata.read(run.path)
    assert metadata.class_names == ["a", "b", "c", "d"]
    assert metadata.input_shape == [6, 6, 1]
    assert metadata.thresholds == [0.25, 0.5]
    assert metadata.macs_per_exit == cost.cumulative
    assert metadata.macs_backbone == cost.backbone
    assert (metadata.dataset, metadata.epsilon, metadata.preset) == ("shapes", "8/255", "mnist")
    assert metadata.model_digest == weights_digest(tiny_model)
    assert run.read_calibration() == CALIBRATION | {"model_digest": metadata.model_digest}
    reloaded = keras.models.load_model(run.path / runs.MODEL_FILE, compile=False)
    assert weights_digest(reloaded) == metadata.model_digest


@pytest.mark.parametrize("name", [runs.MODEL_FILE, runs.METADATA_FILE, runs.CONFIG_FILE])
def test_open_names_what_an_unfinished_run_lacks(finished, name):
    (finished.path / name).unlink()
    with pytest.raises(InputError, match=f"no.* finished run folder: it lacks {name}\\."):
        RunFolder.open(finished.path)


@pytest.mark.parametrize("temperature", ['"0.5"', "true", "[]"])
def test_a_temperature_that_is_no_number_is_refused(finished, temperature):
    (finished.path / runs.CALIBRATION_FILE).write_text(f'{{"temperature": {temperature}}}')
    with pytest.raises(InputError, match="temperature is .*, which is no number. Write it anew"):
        finished.read_calibration()


def test_a_calibration_of_other_weights_is_seen_without_the_model(finished):
    finished.check_calibrated()
    (finished.path / runs.MODEL_FILE).unlink()
    (finished.path / runs.CALIBRATION_FILE).write_text('{"model_digest": "0123"}')
    with pytest.raises(InputError, match="is about weights 0123, .* a calibration was cut short"):
        finished.check_calibrated()


def test_open_refuses_what_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file", tmp_path):
        with pytest.raises(InputError, match=f"lacks {runs.MODEL_FILE}, {runs.METADATA_FILE}"):
            RunFolder.open(path)


def test_create_refuses_a_finished_run_and_leaves_it(finished):
    before = files(finished.path)
    with pytest.raises(InputError, match="holds a finished run.*--overwrite true"):
        RunFolder.create(finished.path, overwrite=False)
    assert files(finished.path) == before


def test_overwriting_keeps_only_the_count_of_looks(finished, tmp_path):
    (finished.path / "logs").mkdir()
    (finished.path / "logs" / "events").write_text("old")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("kept")
    (finished.path / "checkpoints").symlink_to(tmp_path / "elsewhere")

    run = RunFolder.create(finished.path, overwrite=True)

    assert [each.name for each in run.path.iterdir()] == [runs.TEST_EVALUATIONS_FILE]
    assert (tmp_path / "elsewhere" / "precious").read_text() == "kept"
    run.count_test_evaluation("another", "standard")
    assert run.test_evaluations == 3


def test_a_count_of_looks_that_is_a_link_goes(finished, tmp_path):
    (tmp_path / "precious").write_text("kept")
    (finished.path / runs.TEST_EVALUATIONS_FILE).unlink()
    (finished.path / runs.TEST_EVALUATIONS_FILE).symlink_to(tmp_path / "precious")
    RunFolder.create(finished.path, overwrite=True).count_test_evaluation("digest", "quick")
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_run_that_was_cut_makes_way_only_on_request(finished):
    (finished.path / runs.METADATA_FILE).unlink()
    (finished.path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="holds a run that was cut.*--overwrite true"):
        RunFolder.create(finished.path, overwrite=False)
    assert (finished.path / runs.MODEL_FILE).exists()
    assert list(RunFolder.create(finished.path, overwrite=True).path.glob("*.keras")) == []


def test_a_run_is_not_made_where_another_process_works(finished):
    before = files(finished.path)
    with (
        finished.locked(),
        pytest.raises(InputError, match="Another process is working"),
        RunFolder.creating(finished.path, overwrite=True),
    ):
        pass
    assert files(finished.path) == before


def test_an_unfinished_run_makes_way_without_overwrite(finished):
    (finished.path / runs.METADATA_FILE).unlink()
    run = RunFolder.create(finished.path, overwrite=False)
    assert [each.name for each in run.path.iterdir()] == [runs.TEST_EVALUATIONS_FILE]


@pytest.mark.parametrize("overwrite", [False, True])
def test_create_refuses_a_foreign_folder_and_leaves_it(tmp_path, overwrite):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to.txt").write_text("Dear")
    with pytest.raises(InputError, match="is no run folder. Name another one"):
        RunFolder.create(tmp_path, overwrite)
    assert (tmp_path / "letters" / "to.txt").read_text() == "Dear"


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_no_run_wrote_is_not_removed(finished, overwrite):
    (finished.path / runs.METADATA_FILE).unlink()  # Other programs have a config.yaml too.
    (finished.path / "thesis.tex").write_text("kept")
    with pytest.raises(InputError, match=r"holds 'thesis\.tex', which is no run's file.*Move it away"):
        RunFolder.create(finished.path, overwrite)
    assert (finished.path / runs.MODEL_FILE).exists()
    assert (finished.path / "thesis.tex").read_text() == "kept"


def test_create_refuses_a_file_and_leaves_it(tmp_path):
    path = tmp_path / "file"
    path.write_text("kept")
    with pytest.raises(InputError, match="is no run folder"):
        RunFolder.create(path, overwrite=True)
    with pytest.raises(InputError, match="Cannot write to the folder"):
        RunFolder.create(path / "below", overwrite=True)
    assert path.read_text() == "kept"


def test_create_takes_an_empty_folder_and_makes_its_parents(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "a" / "b"):
        assert RunFolder.create(path, overwrite=False).path == path
        assert list(path.iterdir()) == []


def test_every_look_at_the_test_part_is_noted(tmp_path):
    run = RunFolder.create(tmp_path, overwrite=False)
    assert run.test_evaluations == 0
    for number in range(3):
        run.count_test_evaluation(f"digest {number}", "quick")
        assert run.test_evaluations == number + 1
    lines = [json.loads(line) for line in (tmp_path / runs.TEST_EVALUATIONS_FILE).read_text().splitlines()]
    assert [line["model"] for line in lines] == ["digest 0", "digest 1", "digest 2"]
    assert all(line["suite"] == "quick" and line["time"] for line in lines)
