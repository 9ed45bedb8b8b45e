import keras
import pytest
from hypothesis import settings
from keras import layers

from rdi_keras.evaluation import SUITES
from rdi_keras.models import Backbone, MultiExitModel, Stage

# A first example may compile; the same examples every time keep a failure repeatable.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


# Files that take minutes, longest first: begun last, one would keep a single process busy at the end.
LONGEST = (
    *("test_commands", "test_loop", "test_resume", "test_pages", "test_score", "test_second_opinions"),
    *("test_cluster", "test_deployment", "test_soak", "test_cascade", "test_flags", "test_browser"),
    *(
        "test_calibrate",
        "test_litert",
        "test_client",
        "test_backbones",
        "test_import_checkpoint",
        "test_matrix",
    ),
)


def pytest_collection_modifyitems(items):
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="module")
def shorter_suite():
    """`quick` with two attacks in place of four."""
    quick = SUITES["quick"]
    with pytest.MonkeyPatch.context() as patch:
        kept = ("exit_aware", "targeted_exit(2)")
        patch.setitem(SUITES, "quick", lambda epsilon: [each for each in quick(epsilon) if each.name in kept])
        yield


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
