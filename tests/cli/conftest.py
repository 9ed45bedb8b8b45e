import numpy as np
import pytest
from PIL import Image

from rdi_keras.cli import fit
from tests.cli.halves import FAST, where


@pytest.fixture(scope="module", autouse=True)
def _shorter(shorter_suite):
    """Commands are tested here, not attacks."""


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    """Two classes of grey 8×8 images: bright at the top, bright at the bottom."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name, rows in (("bottom", slice(4, 8)), ("top", slice(0, 4))):
        (folder / name).mkdir()
        for number in range(60):
            pixels = random.integers(0, 80, (8, 8), np.uint8)
            pixels[rows] += 150
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def finished(image_folder, tmp_path_factory):
    """A folder with runs/halves and saved_models/halves/1, made by `fit`."""
    folder = tmp_path_factory.mktemp("made")
    data = [f"--data.name=folder:{image_folder}", "--training.batch_size=16"]
    assert fit.main([*data, *where(folder), *FAST]) == 0
    return folder
