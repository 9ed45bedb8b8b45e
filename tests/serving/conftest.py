import keras
import numpy as np
import pytest

from rdi_keras.defenses import RobustModel
from rdi_keras.inference import budget_table, cost_table, entropy, thresholds_for_shares
from rdi_keras.metadata import describe
from rdi_keras.models import small_cnn
from rdi_keras.serving import export_saved_model


@pytest.fixture(scope="session")
def model(images):
    """Untrained, with thresholds that spread samples over its three exits."""
    keras.utils.set_random_seed(0)
    model = RobustModel.from_backbone(small_cnn((8, 8, 1), num_classes=10))
    entropies = np.stack([entropy(each) for each in model.logits(images)], axis=1)
    model.thresholds.assign(thresholds_for_shares(entropies, [0.3, 0.3, 0.4]))
    return model


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(0).uniform(0, 1, (64, 8, 8, 1)).astype(np.float32)


@pytest.fixture(scope="session")
def metadata(model, images):
    entropies = np.stack([entropy(each) for each in model.logits(images)], axis=1)
    cost = cost_table(model)
    table = budget_table(entropies, cost.cumulative, cost.backbone)
    return describe(model, [str(digit) for digit in range(10)], "digits", "8/255", "digits", table)


@pytest.fixture(scope="session")
def saved_model(model, metadata, tmp_path_factory):
    """The folder of an exported version."""
    return export_saved_model(model, metadata, tmp_path_factory.mktemp("saved") / "tiny")


@pytest.fixture(scope="session")
def run_folder(model, metadata, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    model.save(folder / "model.keras")
    metadata.write(folder)
    return folder
