"""`.keras` files that would run code, read files elsewhere, or unpack without end."""

import contextlib
import importlib
import io
import json
import pickle
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from rdi_keras.cli import evaluate
from rdi_keras.errors import InputError
from rdi_keras.model_files import load_model
from rdi_keras.presets import preset
from rdi_keras.runs import MODEL_FILE, TWIN_FILE, RunFolder
from rdi_keras.serving import Predictor
from rdi_keras.training import build_model, load_data
from tests.security.conftest import MODULE, Trap

CONFIG, WEIGHTS = "config.json", "model.weights.h5"


def rewrite(file: Path, **members: bytes) -> None:
    """Replaces members of a `.keras` file."""
    with zipfile.ZipFile(file) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (kept | members).items():
            archive.writestr(name, data)


def plant(file: Path, layer: dict) -> None:
    """Puts a layer in the place of the last one of the first head."""
    with zipfile.ZipFile(file) as archive:
        config = json.loads(archive.read(CONFIG))
    config["config"]["heads"][0]["config"]["layers"][-1].update(layer)
    rewrite(file, **{CONFIG: json.dumps(config).encode()})


def layer(name: str, config: dict, module: str | None = "keras.layers") -> dict:
    """A layer as a `.keras` file writes it."""
    registered = None if module == "keras.layers" else f"{module}>{name}"
    return {"module": module, "class_name": name, "config": config, "registered_name": registered}


def function(module: str, name: str) -> dict:
    """A function as a `.keras` file writes it."""
    return {"class_name": "function", "module": module, "config": name, "registered_name": name}


def python_lambda() -> dict:
    """A layer that holds compiled Python."""
    code = keras.layers.Lambda(
        lambda x: (__import__("os").mkdir(__import__("os").environ["RDI_CANARY"]), x)[1]
    )
    return layer("Lambda", keras.saving.serialize_keras_object(code)["config"])


LAYERS = {
    "Python code": python_lambda,
    "os.mkdir as a function": lambda: layer(
        "Lambda", {"function": function("os", "mkdir"), "arguments": {"mode": 0}}
    ),
    "a function that downloads": lambda: layer(
        "Lambda", {"function": function("keras.utils", "get_file"), "arguments": {"origin": "file:///x"}}
    ),
    "a function that switches safe mode off": lambda: layer(
        "Lambda", {"function": function("keras.config", "enable_unsafe_deserialization")}
    ),
    "a class of another module": lambda: layer("Trap", {}, MODULE),
    "a class of another module, as an initializer": lambda: layer(
        "Dense", {"name": "dense", "units": 10, "kernel_initializer": layer("Trap", {}, MODULE)}
    ),
    "a program": lambda: layer("Popen", {"args": ["mkdir", "written"]}, "subprocess"),
    "a SavedModel elsewhere": lambda: layer("TFSMLayer", {"filepath": "/nowhere", "call_endpoint": "serve"}),
    "words of a file": lambda: layer("StringLookup", {"vocabulary": "/etc/hostname"}),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_that_would_run_code_are_refused(run, trap_module, kind):
    plant(run / MODEL_FILE, LAYERS[kind]())
    with pytest.raises(InputError, match=r"Cannot load .*model\.keras.* Train the run again") as caught:
        RunFolder.open(run).load_model()
    assert "\n" not in str(caught.value)
    assert "safe_mode" not in str(caught.value)  # No advice to run it all the same.
    assert len(str(caught.value)) < 700
    with pytest.raises(InputError):
        Predictor(run)


def test_the_traps_work(run, trap_module, canary):
    plant(run / MODEL_FILE, python_lambda())
    with contextlib.suppress(Exception):  # Whatever comes of the rest.
        keras.models.load_model(run / MODEL_FILE, safe_mode=False)(np.zeros([1, 8, 8, 1], np.float32))
    canary.rmdir()
    importlib.import_module(MODULE)
    del sys.modules[MODULE]
    canary.rmdir()
    pickle.loads(pickle.dumps(Trap()))
    canary.rmdir()


def test_a_hostile_twin_is_refused(run, canary, capsys):
    plant(run / TWIN_FILE, python_lambda())
    assert evaluate.main([str(run), "--engine", "none"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "twin.keras" in said


@pytest.mark.parametrize(
    ("name", "file"), [("trunk", MODEL_FILE), ("weights", MODEL_FILE), ("weights", TWIN_FILE)]
)
def test_a_hostile_model_to_start_from_is_refused(run, canary, name, file):
    plant(run / file, python_lambda())
    config = preset("digits")
    setattr(config.model, name, str(run))
    with pytest.raises(InputError, match="Cannot load"):
        build_model(config, load_data(config), side_exits=file == MODEL_FILE)


def test_a_pickle_is_no_model(run, canary):
    (run / MODEL_FILE).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="Cannot load"):
        RunFolder.open(run).load_model()


@pytest.mark.filterwarnings("ignore:Skipping invalid path")
def test_members_with_paths_are_not_unpacked(run, tmp_path, canary):
    members = {"../written": b"x", str(canary): b"x", "assets/../../written": b"x"}
    rewrite(run / MODEL_FILE, **members)
    before = sorted(tmp_path.rglob("*"))
    RunFolder.open(run).load_model()  # They are passed over.
    assert sorted(tmp_path.rglob("*")) == before


def weights_of(file: Path, change) -> None:
    """Changes the HDF5 file of the weights: `change(file, name, shape)` of one data set."""
    with zipfile.ZipFile(file) as archive:
        data = io.BytesIO(archive.read(WEIGHTS))
    with h5py.File(data, "r+") as opened:
        name = "layers/functional/layers/conv2d/vars/1"
        shape = opened[name].shape
        del opened[name]
        change(opened, name, shape)
    rewrite(file, **{WEIGHTS: data.getvalue()})


def external_storage(file, name, shape):
    file.create_dataset(name, shape, "float32", external=[("/etc/hostname", 0, 4 * shape[0])])


def external_link(file, name, shape):
    file[name] = h5py.ExternalLink("/etc/hostname", "/x")


def bomb(file, name, shape):
    """256 GB that take no room."""
    file.create_dataset(name, (2**20, 2**16), "float32", chunks=(1024, 1024), compression="gzip", fillvalue=0)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize("change", [external_storage, external_link, bomb])
def test_weights_that_lie_elsewhere_or_nowhere_are_refused(run, change):
    weights_of(run / MODEL_FILE, change)
    with pytest.raises(InputError, match="Cannot load"):
        load_model(run / MODEL_FILE)


def test_a_configuration_without_end_is_refused(run):
    rewrite(run / MODEL_FILE, **{CONFIG: b"[" * 100_000})
    with pytest.raises(InputError, match="Cannot load"):
        load_model(run / MODEL_FILE)
