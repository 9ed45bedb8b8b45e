"""What tests with hostile files share: a canary that no file may wake, and honest models to spoil."""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

import keras
import pytest

from rdi_keras.cli.options import dump_config
from rdi_keras.defenses import RobustModel
from rdi_keras.metadata import describe
from rdi_keras.models import small_cnn
from rdi_keras.presets import preset
from rdi_keras.runs import CALIBRATION_FILE, CONFIG_FILE, MODEL_FILE, TWIN_FILE
from rdi_keras.serving import export_saved_model

CANARY = "RDI_CANARY"  # The environment variable that tells hostile code where to write.


MODULE = "rdi_trap"


class Trap:
    """Unpickled, it writes the canary."""

    def __reduce__(self):
        return os.mkdir, (os.environ[CANARY],)


@pytest.fixture
def canary(tmp_path_factory, monkeypatch) -> Path:
    """A path that hostile files write to; at the end nothing may be there."""
    path = tmp_path_factory.mktemp("canary") / "written"
    monkeypatch.setenv(CANARY, str(path))
    yield path
    assert not path.exists()


@pytest.fixture
def trap_module(tmp_path, monkeypatch, canary):
    """A module that writes the canary when it is imported; at the end nobody may have."""
    (tmp_path / "modules").mkdir()
    text = f"import os\nos.mkdir(os.environ[{CANARY!r}])\nclass Trap:\n    pass\n"
    (tmp_path / "modules" / f"{MODULE}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield
    assert sys.modules.pop(MODULE, None) is None


@pytest.fixture(scope="session")
def honest(tmp_path_factory) -> Path:
    """A folder with the finished run `run` of an untrained model, and its SavedModel `exported/1`."""
    folder = tmp_path_factory.mktemp("honest")
    keras.utils.set_random_seed(0)
    model = RobustModel.from_backbone(small_cnn((8, 8, 1), 10))
    metadata = describe(model, [str(digit) for digit in range(10)], "digits", "0.1", "digits")
    run = folder / "run"
    run.mkdir()
    model.save(run / MODEL_FILE)
    model.keep_exits([3]).save(run / TWIN_FILE)
    metadata.write(run)
    (run / CALIBRATION_FILE).write_text(json.dumps({"n": 1}))
    (run / CONFIG_FILE).write_text(dump_config(dataclasses.replace(preset("digits"), name="run")))
    export_saved_model(model, metadata, folder / "exported")
    return folder


@pytest.fixture
def run(honest, tmp_path) -> Path:
    """A copy of the run, to be spoiled."""
    return Path(shutil.copytree(honest / "run", tmp_path / "run"))


@pytest.fixture
def version(honest, tmp_path) -> Path:
    """A copy of the SavedModel's version, to be spoiled."""
    return Path(shutil.copytree(honest / "exported" / "1", tmp_path / "exported" / "1"))
