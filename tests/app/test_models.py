import dataclasses
import os
import shutil

import pytest

from app import models
from rdi_keras.metadata import Metadata


def test_nothing_is_found_where_nothing_is(tmp_path):
    assert models.find_models(tmp_path, tmp_path / "absent") == []


def test_finds_runs_then_saved_models(model_folders):
    found = models.find_models(*model_folders)
    assert [model.name for model in found] == ["tiny (run)", "bare/1"]
    assert {model.facts for model in found} == {"digits, 8×8×1 pixels, 3 exits"}
    assert [model.served_name for model in found] == ["tiny", "bare"]
    assert [model.path.name for model in found] == ["tiny", "1"]


def test_folders_default_to_the_environment(model_folders, monkeypatch, tmp_path):
    monkeypatch.setenv(models.RUNS_VARIABLE, str(tmp_path))
    monkeypatch.setenv(models.SAVED_MODELS_VARIABLE, str(model_folders[1]))
    assert len(models.find_models()) == 1
    monkeypatch.delenv(models.SAVED_MODELS_VARIABLE)
    monkeypatch.chdir(tmp_path)
    assert models.find_models() == []


@pytest.fixture
def make_run(tmp_path, model_folders):
    def make(name, *files):
        folder = tmp_path / name
        folder.mkdir()
        for file in files:
            (folder / file).write_bytes((model_folders[0] / "tiny" / file).read_bytes())
        return folder

    return make


def test_unfinished_and_foreign_folders_are_left_out(make_run, tmp_path):
    make_run("unfinished", "model.keras")
    make_run("no-weights", "metadata.json")
    make_run(".hidden", "model.keras", "metadata.json")
    (tmp_path / "a file").write_text("")
    assert models.find_models(tmp_path, tmp_path) == []


def test_versions_half_written_are_left_out(tmp_path, model_folders):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "writing-x").symlink_to(model_folders[1] / "bare" / "1")
    assert models.find_models(tmp_path / "absent", tmp_path) == []


def test_the_newest_run_comes_first(make_run, tmp_path):
    for age, name in enumerate(["new", "old"]):
        folder = make_run(name, "model.keras", "metadata.json")
        os.utime(folder / "metadata.json", (1000 - age, 1000 - age))
    assert [model.path.name for model in models.find_models(tmp_path, tmp_path)] == ["new", "old"]


def test_unreadable_metadata_are_said_in_the_facts(make_run, tmp_path):
    (make_run("odd", "model.keras", "metadata.json") / "metadata.json").write_text("{}")
    (found,) = models.find_models(tmp_path, tmp_path / "absent")
    assert "cannot be read" in found.facts


def test_the_digest_follows_the_files(make_run):
    folder = make_run("run", "model.keras", "metadata.json")
    before = models.files_digest(folder)
    assert models.files_digest(folder) == before
    dataclasses.replace(Metadata.read(folder), epsilon="0.25").write(folder)
    assert models.files_digest(folder) != before


def test_the_best_model_has_samples_at_hand_and_the_largest_worst_case(tmp_path, pytestconfig, monkeypatch):
    shipped = pytestconfig.rootpath / "saved_models" / "digits" / "1"
    for name in ("unmeasured", "measured", "elsewhere"):
        shutil.copytree(shipped, tmp_path / name / "1")
    (tmp_path / "unmeasured" / "1" / "report.json").unlink()
    other = dataclasses.replace(Metadata.read(shipped), dataset="mnist", input_shape=[28, 28, 1])
    other.write(tmp_path / "elsewhere" / "1")
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    found = models.find_models(tmp_path / "absent", tmp_path)
    assert models.best(found).name == "measured/1"
    shutil.rmtree(tmp_path / "measured")
    assert models.best(models.find_models(tmp_path / "absent", tmp_path)).name == "unmeasured/1"
