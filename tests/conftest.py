import keras
import pytest
from hypothesis import settings
from keras import layers

from rdi_keras.models import Backbone, MultiExitModel, Stage

# A first example may compile; the same examples every time keep a failure repeatable.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def _convolution(features):
    return layers.Conv2D(4, 3, padding="same", activation="relu")(features)


def _head(features):
    return layers.Dense(4)(layers.Dropout(0.5)(layers.Flatten()(features)))


@pytest.fixture(scope="session")
def tiny_backbone():
    """Four stages, three exits, four classes, images of 6×6×1."""
    stages = [Stage(_convolution), *[Stage(_convolution, _head) for _ in range(3)]]
    return Backbone("tiny", (6, 6, 1), tuple(stages))


@pytest.fixture
def tiny_model(tiny_backbone):
    """A fresh model, always with the same weights; its thresholds let nobody leave early."""
    keras.utils.set_random_seed(0)
    return MultiExitModel.from_backbone(tiny_backbone)
