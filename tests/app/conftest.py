"""What the app's tests share."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory) -> tuple[Path, Path]:
    """`(runs, saved_models)` with one untrained model as a run and as a SavedModel."""
    import keras

    from rdi_keras.metadata import describe
    from rdi_keras.models import MultiExitModel, small_cnn
    from rdi_keras.runs import MODEL_FILE
    from rdi_keras.serving import export_saved_model

    root = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    model = MultiExitModel.from_backbone(small_cnn((8, 8, 1), 10))
    # Untrained exits are all near ln 10 = 2.30: the first never sure, the second always.
    model.thresholds.assign([1.0, 2.31])
    metadata = describe(model, [str(digit) for digit in range(10)], "digits", "0.1", "test")
    run = root / "runs" / "tiny"
    run.mkdir(parents=True)
    model.save(run / MODEL_FILE)
    metadata.write(run)
    export_saved_model(model, metadata, root / "saved_models" / "bare")
    return root / "runs", root / "saved_models"


@pytest.fixture
def digit_png() -> bytes:
    """A dark square on white, turned by nothing, as a PNG."""
    picture = np.full((40, 60), 255, np.uint8)
    picture[10:30, 20:40] = 0
    return encode(Image.fromarray(picture))


def encode(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(name="encode")
def encode_fixture():
    """Turns a Pillow image into a file's bytes."""
    return encode


@pytest.fixture
def start(monkeypatch, pytestconfig):
    """Opens a page on folders of models."""

    from app.models import RUNS_VARIABLE, SAVED_MODELS_VARIABLE

    # AppTest leaves the app as the main module, which processes that are spawned later would then run.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])

    def start(runs, saved_models, name="watch", **query) -> AppTest:
        monkeypatch.chdir(pytestconfig.rootpath)
        monkeypatch.setenv(RUNS_VARIABLE, str(runs))
        monkeypatch.setenv(SAVED_MODELS_VARIABLE, str(saved_models))
        page = AppTest.from_file(str(pytestconfig.rootpath / "app" / "main.py"), default_timeout=120)
        for key, value in query.items():
            page.query_params[key] = value
        page.run()
        return page if name == "watch" else page.switch_page(f"views/{name}.py").run()

    return start


@pytest.fixture
def digits_folder(tmp_path, pytestconfig) -> Path:
    """A folder of SavedModels with the digits model that ships, and no other one."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "digits").symlink_to(pytestconfig.rootpath / "saved_models" / "digits")
    return folder


@pytest.fixture
def shipped(start, digits_folder, tmp_path):
    """Opens a page on the digits model that ships."""

    def shipped(name="watch", **query):
        page = start(tmp_path / "absent", digits_folder, name, **query)
        assert not page.exception
        return page

    return shipped
