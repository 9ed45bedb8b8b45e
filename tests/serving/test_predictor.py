import dataclasses
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import rdi_keras as rdi
from rdi_keras.attacks import PGD, Attack, objective
from rdi_keras.errors import InputError


@pytest.fixture(params=["run_folder", "saved_model"])
def predictor(request):
    return rdi.Predictor(request.getfixturevalue(request.param))


def test_run_folder_and_saved_model_agree_with_the_model(model, images, predictor):
    prediction = predictor.predict(images, batch_size=25)
    expected = rdi.inference.adaptive(model, images, np.tile(model.thresholds.numpy(), (64, 1)))
    for field in dataclasses.fields(prediction):
        value = getattr(prediction, field.name)
        assert isinstance(value, np.ndarray)
        np.testing.assert_allclose(value, expected[field.name], atol=1e-5)


def test_exits_are_the_logits_by_name(model, images, predictor):
    exits = predictor.exits(images[:5])
    assert list(exits) == ["exit_1", "exit_2", "exit_3"]
    for value, expected in zip(exits.values(), model.logits(images[:5]), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)


def test_thresholds_can_be_replaced(images, predictor):
    assert set(predictor.predict(images, thresholds=[9, 9]).exit) == {1}
    assert set(predictor.predict(images, thresholds=[0, 0]).exit) == {3}
    other = rdi.Predictor(predictor.path, thresholds=[0, 9])
    assert set(other.predict(images).exit) == {2}


def test_no_images_no_answers(predictor):
    prediction = predictor.predict(np.zeros((0, 8, 8, 1), np.float32))
    assert prediction.probabilities.shape == (0, 10)
    assert prediction.exit.shape == (0,)


def test_folder_of_versions_means_the_highest(saved_model, images):
    predictor = rdi.Predictor(saved_model.parent)
    assert predictor.path == saved_model
    assert len(predictor.predict(images).label) == 64


def test_a_bare_saved_model_can_be_attacked(images, predictor):
    attack = Attack(objective("exit_aware"), PGD(0.1, num_steps=3, step_size=0.05))
    labels = predictor.predict(images).label
    adversarial = attack(predictor, images, labels, predictor.thresholds).numpy()
    assert np.abs(adversarial - images).max() <= 0.1 + 1e-6
    assert np.mean(predictor.predict(adversarial).label == labels) < 1


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.zeros((8, 8, 1), np.float32), r"shape \(B, 8, 8, 1\). Received: \(8, 8, 1\)"),
        (np.zeros((1, 28, 28, 1), np.float32), r"Received: \(1, 28, 28, 1\)"),
        (np.zeros((1, 8, 8, 1), np.uint8), "dtype: uint8. Divide uint8 pixels by 255"),
        (np.full((1, 8, 8, 1), 1.5, np.float32), r"in \[0, 1\].* to 1.5"),
        (np.full((1, 8, 8, 1), -0.1, np.float32), r"from -0.1"),
        (np.full((1, 8, 8, 1), np.nan, np.float32), "NaN"),
    ],
)
def test_bad_images_are_refused(predictor, bad, said):
    for ask in (predictor.predict, predictor.exits):
        with pytest.raises(InputError, match=said):
            ask(bad)


def test_bad_thresholds_and_engines_are_refused(run_folder):
    with pytest.raises(InputError, match="takes 2 thresholds"):
        rdi.Predictor(run_folder, thresholds=[1.0])
    with pytest.raises(InputError, match="takes 2 thresholds"):
        rdi.Predictor(run_folder).predict(np.zeros((1, 8, 8, 1), np.float32), thresholds=[1, np.nan])
    with pytest.raises(InputError, match="Unknown engine 'steam'. Allowed: auto, tensorflow"):
        rdi.Predictor(run_folder, engine="steam")


def test_no_model_says_how_to_make_one(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="make demo"):
            rdi.Predictor(path)


def test_broken_models_are_refused(metadata, tmp_path):
    metadata.write(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="Cannot load"):
        rdi.Predictor(tmp_path)
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "model.keras")
    with pytest.raises(InputError, match="Sequential, not a multi-exit model"):
        rdi.Predictor(tmp_path)


@pytest.mark.parametrize("kind", ["run_folder", "saved_model"])
def test_damaged_files_and_foreign_metadata_are_refused(request, metadata, tmp_path, kind):
    whole = request.getfixturevalue(kind)
    copy = shutil.copytree(whole, tmp_path / "copy")
    dataclasses.replace(metadata, class_names=["one", "two"]).write(copy)
    with pytest.raises(InputError, match="metadata of another model"):
        rdi.Predictor(copy)
    metadata.write(copy)
    for file in ("model.keras", "variables/variables.data-00000-of-00001"):
        if (copy / file).exists():
            (copy / file).write_bytes((copy / file).read_bytes()[:1000])
    with pytest.raises(InputError, match="Cannot load"):
        rdi.Predictor(copy)


def test_a_saved_model_without_our_signatures_is_refused(metadata, tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    metadata.write(tmp_path)
    with pytest.raises(InputError, match="lacks the signatures adaptive, all_exits, serving_default"):
        rdi.Predictor(tmp_path)
