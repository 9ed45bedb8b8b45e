import dataclasses
import itertools
import shutil
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import rdi_keras as rdi
from rdi_keras.attacks import PGD, Attack, objective
from rdi_keras.errors import InputError


@pytest.fixture(
    scope="module",
    params=itertools.product(["run_folder", "saved_model"], ["tensorflow", "onnxruntime"]),
    ids="-".join,
)
def predictor(request):
    folder, engine = request.param
    return rdi.Predictor(request.getfixturevalue(folder), engine)


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


def test_a_batch_of_no_images_is_refused(predictor, images):
    with pytest.raises(InputError, match="batch_size must be at least 1. Received: 0"):
        predictor.predict(images, batch_size=0)


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
    with pytest.raises(InputError, match="Unknown engine 'steam'. Allowed: auto, tensorflow, onnxruntime"):
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
    for file in ("model.keras", "saved_model.pb", "adaptive.onnx"):
        if (copy / file).exists():
            (copy / file).write_bytes((copy / file).read_bytes()[:1000])
    for engine in ("auto", "tensorflow", "onnxruntime"):
        with pytest.raises(InputError, match="Cannot load"):
            rdi.Predictor(copy, engine)


def test_a_saved_model_without_our_signatures_is_refused(metadata, tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    metadata.write(tmp_path)
    with pytest.raises(InputError, match="holds no adaptive.onnx.*training/export.py"):
        rdi.Predictor(tmp_path, "onnxruntime")
    with pytest.raises(InputError, match="lacks the signatures adaptive, all_exits, serving_default"):
        rdi.Predictor(tmp_path)


def test_the_engine_is_chosen_by_what_is_there(run_folder, saved_model, monkeypatch, images):
    assert rdi.Predictor(run_folder).engine == "tensorflow"
    assert rdi.Predictor(saved_model).engine == "onnxruntime"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    without = rdi.Predictor(saved_model)
    assert without.engine == "tensorflow"
    assert len(without.predict(images).label) == 64
    with pytest.raises(InputError, match="needs the package onnxruntime.*pip install"):
        rdi.Predictor(saved_model, "onnxruntime")


@pytest.mark.parametrize(("engine", "threads"), [("tensorflow", 2), ("onnxruntime", 0)])
def test_threads_are_onnx_runtimes(saved_model, engine, threads):
    with pytest.raises(InputError, match=f"at least 1.*Received: {threads} for '{engine}'"):
        rdi.Predictor(saved_model, engine, num_threads=threads)
    assert rdi.Predictor(saved_model, num_threads=1).engine == "onnxruntime"


def test_a_policy_for_every_sample(images, metadata, predictor):
    limits = np.repeat([[9.0, 9.0], [0.0, 9.0], [0.0, 0.0]], 2, axis=0)
    np.testing.assert_array_equal(
        predictor.predict(images[:6], limits, batch_size=4).exit, [1, 1, 2, 2, 3, 3]
    )
    with pytest.raises(InputError, match=r"of shape \(5, 2\). Received: shape \(6, 2\)"):
        predictor.predict(images[:5], limits)
    cheap, dear = predictor.predict(images, budget=0.0), predictor.predict(images, budget=2.0)
    assert set(cheap.exit) == {1}
    assert set(dear.exit) == {3}
    budgets = np.where(np.arange(64) % 2, 2.0, 0.0)
    np.testing.assert_array_equal(predictor.predict(images, budget=budgets).exit, np.where(budgets, 3, 1))
    with pytest.raises(InputError, match="not both"):
        predictor.predict(images, limits, budget=1.0)
    for bad in ([1.0, 2.0], np.nan):
        with pytest.raises(InputError, match="one fraction of the backbone's MACs, or 64"):
            predictor.predict(images, budget=bad)


def test_a_model_without_a_table_takes_no_budget(run_folder, metadata, images, tmp_path):
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    dataclasses.replace(metadata, budget_table=None).write(copy)
    with pytest.raises(InputError, match="holds no table of budgets"):
        rdi.Predictor(copy).predict(images, budget=0.5)
