import keras
import numpy as np
import pytest
import tensorflow as tf

from rdi_keras import models
from rdi_keras.attacks import PGD, Attack, objective
from rdi_keras.defenses import Mix, RobustModel
from rdi_keras.errors import InputError
from rdi_keras.metadata import describe
from rdi_keras.serving import export_saved_model

# With the places of side exits that get all kinds of `paper` heads a backbone has.
TINY = {
    "small_cnn": ((8, 8, 1), {"exits_after": [1, 3]}),
    "resnet20": ((8, 8, 3), {"exits_after": [2, 5, 8]}),
    "resnet18": ((8, 8, 3), {"exits_after": [2, 4, 6]}),
    "mobilenet_v2": ((8, 8, 3), {"exits_after": [2, 5, 8], "width": 0.25}),
}


def build(name, heads, **changed):
    keras.utils.set_random_seed(0)
    shape, options = TINY[name]
    return RobustModel.from_backbone(models.backbone(name, shape, 3, heads=heads, **{**options, **changed}))


def some_images(model, count=6):
    images = np.random.default_rng(0).uniform(0, 1, (count, *model.input_shape[1:]))
    return images.astype(np.float32)


def test_a_backbone_is_made_by_name_with_its_own_options():
    made = models.backbone("small_cnn", (8, 8, 1), 3, exits_after=[2])
    assert made.name == "small_cnn"
    assert made.input_shape == (8, 8, 1)
    assert [stage.head is not None for stage in made.stages] == [False, True, False, False, True]


def test_no_value_stands_for_the_default():
    names = {"exits_after": None, "heads": None, "width": None}
    made, default = (
        models.backbone("small_cnn", (8, 8, 1), 3, **names),
        models.backbone("small_cnn", (8, 8, 1), 3),
    )
    assert [bool(stage.head) for stage in made.stages] == [bool(stage.head) for stage in default.stages]


@pytest.mark.parametrize("name", models.BACKBONES)
def test_every_name_describes_a_backbone(name):
    made = models.backbone(name, (32, 32, 3), 10)
    assert made.name == name
    assert made.stages[-1].head is not None


def test_an_unknown_backbone_is_named_with_what_is_allowed():
    with pytest.raises(InputError, match=r"Unknown backbone 'vgg'\. Allowed: .*small_cnn"):
        models.backbone("vgg", (8, 8, 1), 3)


@pytest.mark.parametrize(("name", "option"), [("small_cnn", "width"), ("resnet38", "depth")])
def test_an_option_that_a_backbone_lacks_is_refused(name, option):
    with pytest.raises(InputError, match=f"{name!r} has no option {option!r}. Allowed: exits_after, heads"):
        models.backbone(name, (32, 32, 3), 10, **{option: 2})


@pytest.mark.parametrize("heads", models.HEADS)
@pytest.mark.parametrize("name", TINY)
def test_saving_keeps_class_names_and_numbers(name, heads, tmp_path):
    model = build(name, heads)
    model.thresholds.assign(np.linspace(0.1, 0.5, model.num_exits - 1))
    images = some_images(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is RobustModel
    assert [each.path for each in loaded.weights] == [each.path for each in model.weights]
    np.testing.assert_array_equal(loaded.thresholds, model.thresholds)
    for expected, given in zip(model.logits(images), loaded.logits(images), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "heads", "exits_after"),
    [
        ("small_cnn", "light", [1, 3]),
        ("resnet20", "paper", [2]),
        ("resnet18", "light", [3]),
        ("mobilenet_v2", "light", [9]),
    ],
)
def test_two_steps_of_training_and_an_export(name, heads, exits_after, tmp_path):
    model = build(name, heads, exits_after=exits_after)
    images, labels = some_images(model), np.array([0, 1, 2, 0, 1, 2])
    # Tracing a deep network's steps takes a minute; that every layer can be traced, the export shows.
    attack = Attack(objective("average"), PGD(0.05, 1, 0.05)) if name == "small_cnn" else None
    model.compile("adam", attack, Mix(0.5 if attack else 0), run_eagerly=True)
    before = [weight.numpy().copy() for weight in model.trainable_weights]
    history = model.fit(images, labels, batch_size=3, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert int(model.optimizer.iterations) == 2
    changed = [not np.array_equal(old, new) for old, new in zip(before, model.trainable_weights, strict=True)]
    assert np.mean(changed) > 0.9  # A ReLU may be dead for all of six images.

    metadata = describe(model, ["a", "b", "c"], "noise", "0.05", "none")
    version = export_saved_model(model, metadata, tmp_path / name)
    served = tf.saved_model.load(str(version)).signatures["all_exits"](images=tf.constant(images))
    for number, expected in enumerate(model.logits(images), start=1):
        np.testing.assert_allclose(served[f"exit_{number}"], expected, rtol=1e-3, atol=1e-4)
