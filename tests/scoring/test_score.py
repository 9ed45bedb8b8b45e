"""Scores through Ray: the same rows for any number of workers, bad images listed, shards taken up again."""

import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import rdi_keras as rdi
from rdi_keras import scoring
from rdi_keras.cli import score as command
from rdi_keras.errors import InputError
from rdi_keras.metadata import Metadata
from rdi_keras.model_files import load_model
from rdi_keras.scoring import runner
from rdi_keras.scoring.results import ERRORS_FILE, SUMMARY_FILE
from rdi_keras.scoring.worker import ShardScorer
from rdi_keras.serving import engines, export_saved_model

ray = pytest.importorskip("ray", reason="the extra ray is not installed")

SETTINGS = {"batch_size": 8, "shard_size": 20}
FLAGS = [f"--{name}={value}" for name, value in SETTINGS.items()]


@pytest.fixture(scope="module")
def local_ray():
    """Two cores, for as long as this module runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def one_worker(local_ray, run_folder, photos, tmp_path_factory):
    """What the command wrote with one worker."""
    out = tmp_path_factory.mktemp("scores") / "one"
    arguments = [str(run_folder), str(photos), f"--out={out}", "--workers=1", *FLAGS]
    assert command.main(arguments) == 0
    return scoring.ResultFolder(out, "path")


@pytest.fixture
def in_this_process(monkeypatch):
    """Shards are scored here, one after the other: for what a process of its own would not change."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "1")  # What a worker sets is taken back.
    monkeypatch.setattr(runner, "_ray_connection", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(runner, "_run", lambda ray, plan, shards, workers: map(ShardScorer(plan), shards))


@dataclass(frozen=True)
class MetBeforeReading(scoring.FolderSource):
    """Its processes leave their numbers in a folder, and read nothing before two have come."""

    met: Path = Path()

    def read(self, shard, class_names):
        (self.met / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(self.met.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return super().read(shard, class_names)


@dataclass(frozen=True)
class Stuck(scoring.FolderSource):
    """Does not arrive in another process, as where something that it needs is missing there."""

    def __reduce__(self):
        return open, ("no such library",)


def test_two_workers_write_the_same_bits(one_worker, run_folder, photos, tmp_path):
    met = tmp_path / "met"
    met.mkdir()
    found = MetBeforeReading(photos, met)
    summary = scoring.score(run_folder, found, tmp_path / "two", workers=2, **SETTINGS)
    assert len(list(met.iterdir())) == 2, "both workers should work"
    two = scoring.ResultFolder(tmp_path / "two", "path")
    assert two.finished() == {0, 1, 2}
    assert two.read().equals(one_worker.read())
    assert json.loads((one_worker.path / SUMMARY_FILE).read_text()) == summary


def test_rows_are_the_predictors_answers(one_worker, run_folder, digits):
    images, labels = digits
    table = one_worker.read()
    paths = table["path"].to_pylist()
    assert paths == sorted(paths)
    rows = {row["path"]: row for row in table.to_pylist() if row["error"] is None}
    assert len(rows) == len(images)
    prediction = rdi.Predictor(run_folder).predict(images[..., None].astype(np.float32) / 255)
    assert len(set(prediction.exit)) == 3, "the fixture should spread samples over exits"
    for number, label in enumerate(labels):
        row = rows[f"some/{label}/{number:03d}.png"]
        assert row["true_label"] == label
        assert row["label"] == prediction.label[number]
        assert row["class_name"] == str(row["label"])
        assert row["exit"] == prediction.exit[number]
        assert row["macs"] == prediction.macs[number]
        np.testing.assert_allclose(row["entropy"], prediction.entropy[number], atol=1e-5)
        np.testing.assert_allclose(row["probability"], prediction.probabilities[number].max(), atol=1e-5)


def test_nothing_is_lost_and_bad_images_are_listed(one_worker):
    table = one_worker.read()
    assert len(table) == 47 + 5
    errors = pq.read_table(one_worker.path / ERRORS_FILE).to_pylist()
    reasons = {row["path"]: row["error"] for row in errors}
    assert list(reasons) == ["a.png", "b.jpg", "c.png", "other_size.png", "red.png"]
    assert "Cannot read the image 'a.png'" in reasons["a.png"]
    assert "cannot identify image file b.jpg" in reasons["b.jpg"]
    assert "No such file" in reasons["c.png"]
    assert "has 6×9 pixels; the model takes 8×8. Say --resize true" in reasons["other_size.png"]
    assert "has 3 colour channels; the model takes 1" in reasons["red.png"]
    assert all(row["label"] is row["exit"] is row["probability"] is None for row in errors)


def test_summary_counts(one_worker):
    summary = json.loads((one_worker.path / SUMMARY_FILE).read_text())
    rows = [row for row in one_worker.read().to_pylist() if row["error"] is None]
    assert (summary["images"], summary["scored"], summary["errors"]) == (52, 47, 5)
    assert sum(summary["exits"].values()) == 47
    assert summary["exits"]["exit_2"] == sum(row["exit"] == 2 for row in rows)
    np.testing.assert_allclose(summary["mean_macs"], np.mean([row["macs"] for row in rows]))
    assert summary["labelled"] == 47
    np.testing.assert_allclose(
        summary["accuracy"], np.mean([row["label"] == row["true_label"] for row in rows])
    )


def test_only_what_is_missing_is_scored_again(one_worker, in_this_process, run_folder, photos, capsys):
    before = one_worker.read()
    files = sorted(one_worker.path.glob("shard-*.parquet"))
    times = {file: file.stat().st_mtime_ns for file in files}
    files[1].unlink()
    (one_worker.path / ".aside.shard-00001.parquet").touch()  # Left by a worker that was killed.
    arguments = [str(run_folder), str(photos), f"--out={one_worker.path}", "--workers=1", *FLAGS]
    assert command.main(arguments) == 0
    assert one_worker.read().equals(before)
    assert [file for file in files if file.stat().st_mtime_ns != times[file]] == [files[1]]
    assert not list(one_worker.path.glob(".aside.*"))
    printed = capsys.readouterr().out
    assert "scored: 47 of 52 images" in printed
    assert "not scored: b.jpg: Cannot read the image" in printed


@pytest.mark.parametrize("damage", ["cut short", "other bytes"])
def test_a_shard_that_cannot_be_read_is_scored_anew(one_worker, in_this_process, run_folder, photos, damage):
    before = one_worker.read()
    file = one_worker.path / "shard-00001.parquet"
    data = bytearray(file.read_bytes())
    data[40] ^= 255
    file.write_bytes(data if damage == "other bytes" else data[:100])
    assert one_worker.finished() == {0, 2}
    scoring.score(run_folder, scoring.source(str(photos)), one_worker.path, workers=1, **SETTINGS)
    assert one_worker.read().equals(before)


def test_no_summary_without_all_shards(one_worker):
    with pytest.raises(InputError, match="2 of 5 shards are missing in .*Repeat the command"):
        one_worker.summarise(3, planned=5)


def test_other_settings_and_other_data_are_refused(one_worker, run_folder, photos, tmp_path):
    found = scoring.source(str(photos))
    with pytest.raises(InputError, match=r"other settings \(batch_size: 8 there, 16 now\)"):
        scoring.score(run_folder, found, one_worker.path, batch_size=16, shard_size=20)
    with pytest.raises(InputError, match=r"thresholds: .* now\)"):
        scoring.score(run_folder, found, one_worker.path, thresholds=[0.5, 0.5], **SETTINGS)
    (tmp_path / "x.png").touch()
    with pytest.raises(InputError, match=r"other settings \(data: .*'files': 52.*'files': 1"):
        scoring.score(run_folder, scoring.source(str(tmp_path)), one_worker.path, **SETTINGS)


def test_a_replaced_file_of_equal_size_is_refused(one_worker, run_folder, photos):
    file = photos / "b.jpg"
    before, times = file.read_bytes(), file.stat()
    file.write_bytes(before[::-1])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    try:
        with pytest.raises(InputError, match=rf"other settings \(data: .*'{photos}'.* now\)"):
            scoring.score(run_folder, scoring.source(str(photos)), one_worker.path, **SETTINGS)
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_an_export_that_rounds_the_weights_is_another_model(in_this_process, run_folder, photos, tmp_path):
    model, metadata = load_model(run_folder / "model.keras"), Metadata.read(run_folder)
    for weights in ("float32", "float16"):
        export_saved_model(model, metadata, tmp_path / weights, weights=weights)
    asked = {"out": tmp_path / "out", "limit": 3, "workers": 1}
    found = scoring.source(str(photos))
    scoring.score(tmp_path / "float32", found, **asked)
    with pytest.raises(InputError, match=r"other settings \(executed_files: \w+ there, \w+ now\)"):
        scoring.score(tmp_path / "float16", found, **asked)


def test_a_worker_that_cannot_start_is_one_line(local_ray, run_folder, photos, tmp_path):
    with pytest.raises(
        InputError, match="A worker could not start, or was lost: FileNotFoundError: .*no such library"
    ):
        scoring.score(run_folder, Stuck(photos), tmp_path / "out", workers=1, **SETTINGS)


def test_workers_are_as_many_as_there_are_cores_for_this_process(monkeypatch):
    asked = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(engines, "available_cores", lambda: 3)
    for workers, cores in ((None, 3), (1, 3), (5, 5)):
        with runner._ray_connection(ray, None, workers):
            assert asked["num_cpus"] == cores


def test_a_worker_s_refusal_is_one_line(local_ray, run_folder, photos, tmp_path, capsys, monkeypatch):
    """The folder of results is there when the command begins, and not for the workers."""
    out = tmp_path / "out"
    finished = scoring.ResultFolder.finished

    def removed(folder):
        numbers = finished(folder)
        (folder.path / "settings.json").unlink()
        folder.path.rmdir()
        return numbers

    monkeypatch.setattr(scoring.ResultFolder, "finished", removed)
    arguments = [str(run_folder), str(photos), f"--out={out}", "--workers=1", "--limit=3"]
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: A worker does not see the folder")
    assert error.count("\n") == 1


def test_without_ray_one_line_says_how_to_get_it(run_folder, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert command.main([str(run_folder), str(photos), f"--out={tmp_path}/out"]) == 2
    error = capsys.readouterr().err
    assert 'pip install "rdi_keras[ray]"' in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--workers=0"], "workers must be at least 1. Received: 0"),
        (["--engine=steam"], "Unknown engine 'steam'"),
        (["--thresholds=[1]"], "takes 2 thresholds"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_written(
    run_folder, photos, tmp_path, capsys, flags, said
):
    assert command.main([str(run_folder), str(photos), f"--out={tmp_path}/out", *flags]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_there_is_one_line(run_folder, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match="Cannot reach a Ray cluster at '127.0.0.1:1': .*refused"):
        scoring.score(run_folder, scoring.source(str(photos)), tmp_path / "out", ray_address="127.0.0.1:1")


def test_a_folder_of_something_else_is_left_alone(run_folder, photos, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds something other than scores"):
        scoring.score(run_folder, scoring.source(str(photos)), tmp_path)
