import keras
import numpy as np
import pytest
from keras import layers

from rdi_keras.models import Backbone, MultiExitModel, Stage

NUM_CLASSES = 4


def block(features):
    features = layers.Conv2D(6, 3, padding="same")(features)
    return layers.ReLU()(layers.BatchNormalization()(features))


def head(features):
    return layers.Dense(NUM_CLASSES)(layers.Dropout(0.5)(layers.Flatten()(features)))


@pytest.fixture(scope="session")
def model():
    """Three exits, with BatchNorm and dropout, untrained; thresholds that spread the exits."""
    keras.utils.set_random_seed(0)
    backbone = Backbone("tiny", (6, 6, 1), (Stage(block, head), Stage(block, head), Stage(block, head)))
    model = MultiExitModel.from_backbone(backbone)
    model.thresholds.assign([1.25, 1.3])
    return model


@pytest.fixture(scope="session")
def batch():
    random = np.random.default_rng(0)
    # Pixels at 0 and 1 make the clipping to [0, 1] matter.
    images = np.clip(random.uniform(-0.2, 1.2, (12, 6, 6, 1)), 0, 1).astype(np.float32)
    return images, random.integers(0, NUM_CLASSES, 12)
