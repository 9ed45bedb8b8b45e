import keras
import numpy as np
import pytest
from PIL import Image

from rdi_keras.data import load_digits
from rdi_keras.defenses import RobustModel
from rdi_keras.inference import entropy, thresholds_for_shares
from rdi_keras.metadata import describe
from rdi_keras.models import small_cnn


@pytest.fixture(scope="session")
def digits():
    """47 test images, uint8 `[n, 8, 8]`, and their labels."""
    split = load_digits().test.first(47)
    return np.round(split.images[..., 0] * 255).astype(np.uint8), split.labels


@pytest.fixture(scope="session")
def run_folder(digits, tmp_path_factory):
    """An untrained model with thresholds that spread samples over its three exits."""
    keras.utils.set_random_seed(0)
    model = RobustModel.from_backbone(small_cnn((8, 8, 1), num_classes=10))
    images = digits[0][..., None].astype(np.float32) / 255
    entropies = np.stack([entropy(each) for each in model.logits(images)], axis=1)
    model.thresholds.assign(thresholds_for_shares(entropies, [0.3, 0.3, 0.4]))
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    model.save(folder / "model.keras")
    describe(model, [str(digit) for digit in range(10)], "digits", "8/255", "digits").write(folder)
    return folder


@pytest.fixture(scope="session")
def photos(digits, tmp_path_factory):
    """The digits as PNG files in folders of their classes, and among them five that cannot be scored."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (image, label) in enumerate(zip(*digits, strict=True)):
        (folder / "some" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "some" / str(label) / f"{number:03d}.png")
    whole = (folder / "some" / str(digits[1][0]) / "000.png").read_bytes()
    (folder / "a.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b.jpg").write_bytes(b"not an image")
    (folder / "c.png").symlink_to(folder / "gone.png")
    Image.fromarray(np.full((6, 9), 80, np.uint8)).save(folder / "other_size.png")
    red = (np.eye(8)[..., None] * [9, 0, 0]).astype(np.uint8)
    Image.fromarray(red).save(folder / "red.png")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.png").write_bytes(b"")
    return folder
