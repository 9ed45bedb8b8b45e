"""From a PyTorch checkpoint to a run that is measured, exported and opened like any other."""

import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import rdi_keras as rdi
from rdi_keras import evaluation
from rdi_keras.attacks import Attack, objective, pgd
from rdi_keras.cli import evaluate, export, import_checkpoint
from rdi_keras.cli.options import load_config
from rdi_keras.evaluation import SUITES, Entry
from rdi_keras.metadata import Metadata
from rdi_keras.runs import RunFolder

EQUAL_SHARES = [1 / 7] * 7


def write_images(folder, size=32, classes=("cold", "warm"), mode="RGB"):
    """40 images a class, of random colours around a brightness of the class's own."""
    random = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for image in range(40):
            pixels = random.integers(60 * number, 60 * number + 120, (size, size, 3), np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{image:02d}.png")
    return folder


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("torch")
    from tests.models import torch_networks

    return torch_networks.make("resnet20", num_classes=2)


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory):
    import torch

    path = tmp_path_factory.mktemp("checkpoints") / "published.pth.tar"
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state, "arch": "resnet", "iter": 1, "best_prec1": 0.5}, path)
    return path


@pytest.fixture(scope="module")
def command(checkpoint, image_folder):
    """Runs the command; flags given later win."""

    def run(out, *flags, path=checkpoint):
        return import_checkpoint.main(
            [str(path), "--arch=resnet20", f"--data=folder:{image_folder}", f"--out={out}", *flags]
        )

    return run


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    """A run as the command leaves it."""
    folder = tmp_path_factory.mktemp("made") / "runs" / "net"
    assert command(folder, "--epsilon=4/255") == 0
    return folder


def contents(folder):
    return {each.relative_to(folder): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_the_run_folder_is_that_of_the_contract(run, checkpoint, image_folder):
    names = {"config.yaml", "environment.json", "metadata.json", "model.keras", "calibration.json"}
    assert names <= {each.name for each in run.iterdir()}
    assert not {"history.csv", "twin.keras", "logs", "checkpoints"} & {each.name for each in run.iterdir()}
    environment = json.loads((run / "environment.json").read_text())
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert environment["checkpoint"] == {"file": "published.pth.tar", "sha256": digest}
    assert environment["packages"]["tensorflow"]
    metadata = Metadata.read(run)
    assert (metadata.preset, metadata.epsilon) == ("imported", "4/255")
    assert metadata.class_names == ["cold", "warm"]
    assert metadata.dataset == f"folder:{image_folder}"
    assert len(metadata.macs_per_exit) == 7


def test_the_configuration_is_loaded_again(run, image_folder):
    text = (run / "config.yaml").read_text()
    assert "published.pth.tar" in text.splitlines()[0]
    config = load_config(text)
    assert (config.preset, config.name, config.runs_dir) == ("imported", "net", str(run.parent))
    assert (config.epsilon, config.twin, config.model.backbone) == ("4/255", False, "resnet20")
    assert config.data.name == f"folder:{image_folder}"
    assert config.calibration.shares == pytest.approx(EQUAL_SHARES)
    assert config.evaluation.limit == 1000


def test_every_exit_answers_an_equal_share_of_the_calibration_data(run):
    calibration = RunFolder.open(run).read_calibration()
    assert calibration["n"] == 6
    assert calibration["method"].startswith("shares ")
    assert calibration["exit_shares"] == pytest.approx(EQUAL_SHARES, abs=1 / 6)
    assert 0 <= calibration["accuracy"] <= 1


def test_the_run_answers_as_the_pytorch_network(run, network, image_folder):
    from tests.models import torch_networks

    images = rdi.data.load(f"folder:{image_folder}").test.images[:5]
    expected = torch_networks.logits(network, images)
    for ours, theirs in zip(rdi.Predictor(run).exits(images).values(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_a_run_is_evaluated_and_exported(run, image_folder, monkeypatch):
    # The whole suite takes minutes.
    one = [Entry("exit_aware", Attack(objective("exit_aware"), pgd("4/255", 1)))]
    monkeypatch.setitem(SUITES, "quick", lambda epsilon: one)
    assert evaluate.main([str(run), "--suite=quick", "--limit=2", "--curve_samples=0", "--engine=none"]) == 0
    report = evaluation.read_report(run, Metadata.read(run))
    assert list(report["conditions"]) == ["clean", "exit_aware", "worst_case"]
    assert (report["n"], report["epsilon_text"], report["baseline"]) == (2, "4/255", None)
    assert len(report["macs_per_exit"]) == 7

    exported = run.parent.parent / "saved_models"
    assert export.main([str(run), f"--out={exported}"]) == 0
    images = rdi.data.load(f"folder:{image_folder}").test.images
    opened, saved = rdi.Predictor(run), rdi.Predictor(exported)
    assert saved.metadata == opened.metadata
    answers = zip(vars(opened.predict(images)).values(), vars(saved.predict(images)).values(), strict=True)
    for ours, theirs in answers:
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_finished_run_is_replaced_only_on_request(command, run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "net")
    before = contents(folder)
    assert command(folder, "--epsilon=2/255") == 2
    assert "holds a finished run. Name another folder" in capsys.readouterr().err
    assert contents(folder) == before
    # Now a budget, in place of equal shares.
    assert command(folder, "--epsilon=2/255", "--budget=0.8", "--overwrite=true") == 0
    assert Metadata.read(folder).epsilon == "2/255"
    config = load_config((folder / "config.yaml").read_text())
    assert (config.calibration.budget, config.calibration.shares) == (0.8, None)
    calibration = RunFolder.open(folder).read_calibration()
    assert calibration["method"] == "budget 0.8"
    assert calibration["mean_macs"] <= 0.8 * Metadata.read(folder).macs_backbone
    assert calibration["saving"] >= 0.2


def test_what_is_no_run_is_left_alone(command, tmp_path, capsys):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "letter.txt").write_text("mine")
    assert command(tmp_path / "net", "--overwrite=true") == 2
    assert "exists and is no run folder" in capsys.readouterr().err
    assert [each.name for each in (tmp_path / "net").iterdir()] == ["letter.txt"]


@pytest.fixture
def refused(capsys, tmp_path):
    """Checks a failed call's status and its one line, and that it wrote nothing."""
    out = tmp_path / "runs" / "net"

    def check(status, *said):
        assert status == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        for each in said:
            assert each in lines[0]
        assert not out.parent.exists()

    check.out = out
    return check


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--arch=resnet32"], "does not fit a resnet32 with 7 exits and 2 classes"),
        (["--arch=mobilenet_v2"], "does not fit a mobilenet_v2 with 7 exits and 2 classes"),
        (["--arch=vgg"], "Unknown architecture 'vgg'. Allowed: resnet20, resnet32"),
        (["--arch=resnet18"], "Unknown architecture 'resnet18'. Allowed: resnet20, resnet32"),
        (["--arch="], "Unknown architecture ''"),
        (["--epsilon=2"], "between 0 and 1"),
        (["--epsilon=big"], "epsilon must be a number or a fraction"),
        (["--data=no_such_set"], "Unknown data set 'no_such_set'. Allowed: digits"),
        (["--data=folder:missing"], "No folder of images at 'missing'"),
        (["--calibration_pool=0:4"], "A calibration pool names positions in a TFDS set"),
        (["--calibration_pool=some"], "Positions are ranges first:end"),
        (["--budget=0.01"], "cannot be met"),
        (["--budget=nan"], "budget"),
        (["--budget=much"], "budget"),
        (["--overwrite=perhaps"], "overwrite"),
        (["--nonsense=1"], "nonsense"),
    ],
)
def test_bad_flags_are_one_line_and_nothing_is_written(command, refused, flags, said):
    refused(command(refused.out, *flags), said)


def test_other_classes_than_the_datas_are_refused(command, refused, tmp_path):
    three = write_images(tmp_path / "images", classes=("a", "b", "c"))
    status = command(refused.out, f"--data=folder:{three}")
    refused(status, "'branch_layer1.9.weight' has shape (2, 32), expected is (3, 32)")


@pytest.mark.parametrize(("size", "mode"), [(28, "RGB"), (32, "L")])
def test_images_that_the_network_was_not_made_for_are_refused(command, refused, tmp_path, size, mode):
    other = write_images(tmp_path / "images", size=size, mode=mode)
    refused(command(refused.out, f"--data=folder:{other}"))


@pytest.mark.parametrize("kind", ["missing", "folder", "truncated", "text"])
def test_files_that_are_no_checkpoint_are_refused(command, checkpoint, refused, tmp_path, kind):
    path = tmp_path / "other.pth"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(checkpoint.read_bytes()[:20_000] if kind == "truncated" else b"hello\n")
    refused(command(refused.out, path=path), "other.pth")


def test_without_pytorch_the_command_says_how_to_get_it(monkeypatch, refused, tmp_path):
    (tmp_path / "file.pth").write_text("")
    monkeypatch.setitem(sys.modules, "torch", None)
    status = import_checkpoint.main([str(tmp_path / "file.pth"), f"--out={refused.out}"])
    refused(status, "needs PyTorch. Install it: pip install 'rdi_keras[torch]'")


def test_help_loads_neither_tensorflow_nor_pytorch():
    code = """
import json, sys
from rdi_keras.cli import import_checkpoint
try:
    import_checkpoint.main(["--help"])
finally:
    print(json.dumps([name for name in ("tensorflow", "keras", "torch") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert "usage: " in done.stdout
    assert "--arch" in done.stdout
