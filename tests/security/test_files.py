"""Hostile files beside the model: results, metadata, links, images, names of data sets."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import EpsImagePlugin, Image, ImageFile

from rdi_keras.cli import calibrate, evaluate, export
from rdi_keras.data import load, load_folder
from rdi_keras.data.folder import read_image
from rdi_keras.errors import InputError
from rdi_keras.evaluation import FolderShelf, read_report
from rdi_keras.evaluation.outcome import Outcome
from rdi_keras.files import write_text
from rdi_keras.metadata import FILE_NAME, Metadata
from rdi_keras.runs import CALIBRATION_FILE, RunFolder
from rdi_keras.scoring import sources
from rdi_keras.training.checkpoints import Checkpoints
from tests.security.conftest import Trap

# --- What is no JSON and no array ---


def shelf_file(folder: Path) -> tuple[FolderShelf, Path]:
    shelf = FolderShelf(folder / "evaluation", {})
    return shelf, shelf.folder / "clean-0.npz"


def readers(run: Path) -> dict:
    """What reads each JSON file of a run."""
    metadata = Metadata.read(run)
    return {
        FILE_NAME: lambda: Metadata.read(run),
        CALIBRATION_FILE: RunFolder(run).read_calibration,
        "report.json": lambda: read_report(run, metadata),
    }


@pytest.mark.parametrize("name", [FILE_NAME, CALIBRATION_FILE, "report.json"])
def test_pickles_and_json_without_end_are_no_results(run, canary, name):
    read = readers(run)[name]
    (run / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="Cannot read"):
        read()
    (run / name).write_text("[" * 100_000)
    with pytest.raises(InputError, match="nested too deeply"):
        read()


def test_pickles_are_no_finished_batch(run, canary):
    shelf, file = shelf_file(run)
    arrays = {name: np.array([Trap()], object) for name in (*Outcome.__annotations__, "samples", "passes")}
    np.savez(file, **arrays)
    assert shelf.get("clean", 0) is None
    file.write_bytes(pickle.dumps(Trap()))
    assert shelf.get("clean", 0) is None
    np.savez(file, **arrays)
    with np.load(file, allow_pickle=True) as opened:  # The trap works.
        assert opened["samples"] is not None
    canary.rmdir()


def test_arrays_that_claim_terabytes_are_damaged(run):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000,), }\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    shelf, file = shelf_file(run)
    checkpoint = run / "model-000001-00000000.npz"
    for path, names in ((file, [*Outcome.__annotations__]), (checkpoint, ["about"])):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(f"{name}.npy", array)
    assert shelf.get("clean", 0) is None
    said = []
    assert Checkpoints(run, "model", "x", say=said.append).restore() is None
    assert "damaged" in said[0]


# --- Metadata and reports ---

WRONG = {
    "class_names": [5, "abc", [], [1, 2], [["x"]], None],
    "input_shape": [5, [8, 8], [8, 8, "x"], [8, 8, 0], [8, 8, 1.5]],
    "thresholds": ["ab", [None], {}],
    "macs_per_exit": [7, [], ["1"]],
    "macs_backbone": ["<b>", 0, None],
    "dataset": [3, None, "\ud800"],
    "epsilon": [0.1],
    "budget_table": [[1], {"budgets": "x", "thresholds": []}, {"budgets": [1], "thresholds": ["x"]}],
}


@pytest.mark.parametrize(("name", "value"), [(name, each) for name in WRONG for each in WRONG[name]])
def test_metadata_of_other_kinds_are_refused(run, name, value):
    fields = json.loads((run / FILE_NAME).read_text())
    (run / FILE_NAME).write_text(json.dumps(fields | {name: value}))
    with pytest.raises(InputError, match=r"Cannot read .*metadata\.json"):
        Metadata.read(run)


def test_names_of_attacks_hold_no_markup(pytestconfig, tmp_path):
    shipped = pytestconfig.rootpath / "saved_models" / "digits" / "1"
    report = json.loads((shipped / "report.json").read_text())
    report["conditions"]["<a href=https://example.org>x</a>"] = report["conditions"]["clean"]
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match="Not a report"):
        read_report(tmp_path, Metadata.read(shipped))


# --- Links ---


@pytest.mark.parametrize(
    "name",
    [
        "test_evaluations.jsonl",
        "report.json",
        "checkpoints",
        "evaluation",
        "logs/model",
        ".aside.metadata.json",
    ],
)
def test_a_run_with_links_is_not_worked_in(run, tmp_path, name, capsys):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    target = outside if "." not in name else outside / "precious"
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(target)
    for command in (evaluate, calibrate, export):
        assert command.main([str(run)]) == 2
        said = capsys.readouterr().err
        assert "holds a link" in said
        assert said.count("\n") == 1
    assert [each.name for each in outside.iterdir()] == ["precious"]
    assert (outside / "precious").read_text() == "kept"


def test_writing_follows_no_link(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "folder").mkdir()
    for name in (".aside.x.json", "x.json"):
        (tmp_path / "folder" / name).symlink_to(tmp_path / "precious")
    write_text(tmp_path / "folder" / "x.json", "new")
    assert (tmp_path / "precious").read_text() == "kept"
    assert (tmp_path / "folder" / "x.json").read_text() == "new"
    assert not (tmp_path / "folder" / "x.json").is_symlink()


# --- Images ---


def photos(folder: Path) -> Path:
    """Two classes of ten images."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (8, 8), number).save(folder / name / f"{number}.png")
    return folder


def refusals(folder: Path, file: Path) -> list[str]:
    """What is said of one image of a folder by training's reader and by scoring's."""
    with pytest.raises(InputError) as caught:
        load_folder(folder)
    source = sources.source(str(folder))
    samples = {each.key: each for each in source.read(source.shards(100, None)[0], [])}
    sample = samples[file.relative_to(folder).as_posix()]
    if sample.error:
        return [str(caught.value), sample.error]
    with pytest.raises(InputError) as again:
        source.decode(sample)
    return [str(caught.value), str(again.value)]


def test_an_image_starts_no_program(tmp_path, canary, monkeypatch):
    """Pillow reads PostScript by starting Ghostscript, whatever the file's name says."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nmkdir -p "{canary}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    file = photos(tmp_path / "photos") / "a" / "x.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    assert all("x.png" in each for each in refusals(tmp_path / "photos", file))
    with pytest.raises(OSError), Image.open(file) as opened:  # noqa: PT011 - The trap works.
        opened.load()
    canary.rmdir()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_that_swells_is_not_decoded(tmp_path, monkeypatch):
    file = photos(tmp_path / "photos") / "a" / "x.png"
    Image.new("1", (12_000, 12_000)).save(file)
    assert file.stat().st_size < 50_000

    def load(image):
        raise AssertionError("decoded")

    whole = ImageFile.ImageFile.load
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda image: load(image) if image.width > 100 else whole(image)
    )
    assert all(
        "12000×12000 pixels are more than 50,000,000" in each for each in refusals(file.parents[1], file)
    )


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_what_never_ends_is_no_image(tmp_path, kind):
    file = photos(tmp_path / "photos") / "a" / "x.png"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        with file.open("wb") as opened:
            opened.truncate(2**40)  # Takes no room on the disk.
    assert len(refusals(tmp_path / "photos", file)) == 2


def test_a_link_tells_nothing_of_what_is_no_image(tmp_path):
    (tmp_path / "secret").write_text("the secret")
    file = photos(tmp_path / "photos") / "a" / "x.png"
    file.symlink_to(tmp_path / "secret")
    said = refusals(tmp_path / "photos", file)
    assert "the secret" not in "".join(said)


def test_an_unknown_kind_of_image_is_refused_by_content(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "x.png", "PCX")
    with pytest.raises(InputError, match=r"x\.png"):
        read_image(tmp_path / "x.png", None)


# --- Names of data sets ---


@pytest.mark.parametrize("name", ["huggingface:some", "somebody:set", "somebody:set/x:1.0.0"])
def test_a_name_does_not_fetch_code(name, monkeypatch):
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: pytest.fail("asked TFDS"))
    with pytest.raises(InputError, match="Unknown data set"):
        load(name)
