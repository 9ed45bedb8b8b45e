import io
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from rdi_keras.errors import InputError
from rdi_keras.inference import EntropyPolicy, adaptive, entropy
from rdi_keras.metadata import Metadata
from rdi_keras.serving import export, export_saved_model
from rdi_keras.serving.warmup import WARMUP_FILE

FIELDS = {"probabilities", "label", "exit", "entropy", "macs"}

WITHOUT_THE_PACKAGE = """
import sys
import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
assert "rdi_keras" not in sys.modules, "not TensorFlow alone"
images = np.load(sys.argv[2])
for size in (1, 7, 64):
    answers = loaded.signatures["serving_default"](images=tf.constant(images[:size]))
    exits = loaded.signatures["all_exits"](images=tf.constant(images[:size]))
    logits = {f"logits_{name}": each for name, each in exits.items()}
    np.savez(f"{sys.argv[3]}/{size}.npz", **answers, **logits)
"""


def test_loads_with_tensorflow_alone_and_gives_the_models_numbers(model, images, saved_model, tmp_path):
    np.save(tmp_path / "images.npy", images)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PACKAGE, saved_model, tmp_path / "images.npy", tmp_path],
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    for size in (1, 7, 64):
        answers = np.load(tmp_path / f"{size}.npz")
        logits = model.logits(images[:size])
        expected, exits = EntropyPolicy(model.thresholds).answer(logits)
        np.testing.assert_array_equal(answers["exit"], exits)
        np.testing.assert_allclose(answers["probabilities"], tf.nn.softmax(expected), atol=1e-5)
        np.testing.assert_array_equal(answers["label"], np.argmax(expected, axis=-1))
        np.testing.assert_allclose(answers["entropy"], entropy(expected), atol=1e-5)
        for number, each in enumerate(logits, start=1):
            np.testing.assert_allclose(answers[f"logits_exit_{number}"], each, atol=1e-5)
        assert answers["exit"].dtype == np.int32
        assert answers["label"].dtype == np.int64
    assert len(set(answers["exit"])) == 3, "the fixture should spread samples over exits"


def test_signatures_are_the_contracts(saved_model):
    loaded = tf.saved_model.load(str(saved_model))
    signatures = loaded.signatures
    assert set(signatures) == {"serving_default", "adaptive", "all_exits", "image_bytes", "budget"}
    for name in ("serving_default", "adaptive", "image_bytes", "budget"):
        assert set(signatures[name].structured_outputs) == FIELDS
    assert set(signatures["all_exits"].structured_outputs) == {"exit_1", "exit_2", "exit_3"}
    inputs = {name: set(each.structured_input_signature[1]) for name, each in signatures.items()}
    assert inputs["serving_default"] == inputs["all_exits"] == {"images"}
    assert inputs["adaptive"] == {"images", "thresholds"}
    assert inputs["image_bytes"] == {"bytes"}
    assert inputs["budget"] == {"images", "budget"}


def test_thresholds_are_per_sample(model, images, saved_model):
    loaded = tf.saved_model.load(str(saved_model))
    signature = loaded.signatures["adaptive"]
    limits = np.repeat([[9.0, 9.0], [0.0, 9.0], [0.0, 0.0]], 2, axis=0).astype(np.float32)
    answers = signature(images=tf.constant(images[:6]), thresholds=tf.constant(limits))
    np.testing.assert_array_equal(answers["exit"], [1, 1, 2, 2, 3, 3])
    np.testing.assert_allclose(answers["macs"], adaptive(model, images[:6], limits)["macs"])


def test_budgets_are_per_sample_and_met(images, metadata, saved_model):
    loaded = tf.saved_model.load(str(saved_model))
    signature = loaded.signatures["budget"]
    table = metadata.budget_table
    spent = []
    for budget, limits in zip(table.budgets, table.thresholds, strict=True):
        answers = signature(images=tf.constant(images), budget=tf.fill([len(images)], budget + 1e-6))
        expected = loaded.signatures["adaptive"](
            images=tf.constant(images), thresholds=tf.tile([limits], [len(images), 1])
        )
        np.testing.assert_array_equal(answers["exit"], expected["exit"])
        spent.append(float(np.mean(answers["macs"])) / metadata.macs_backbone)
    assert all(each <= budget + 1e-6 for each, budget in zip(spent, table.budgets, strict=True))
    assert len(set(spent)) > 5
    mixed = signature(images=tf.constant(images[:2]), budget=tf.constant([0.0, 99.0]))
    np.testing.assert_array_equal(mixed["exit"], [1, 3])


@pytest.mark.parametrize(("options", "tolerance"), [({"fold": False}, 1e-5), ({"weights": "float16"}, 1e-2)])
def test_other_ways_to_export_give_nearly_the_same(model, images, metadata, tmp_path, options, tolerance):
    version = export_saved_model(model, metadata, tmp_path, **options)
    loaded = tf.saved_model.load(str(version))
    for number, expected in enumerate(model.logits(images), start=1):
        logits = loaded.signatures["all_exits"](images=tf.constant(images))[f"exit_{number}"]
        assert logits.dtype == tf.float32
        np.testing.assert_allclose(logits, expected, atol=tolerance)


def test_float16_halves_the_file(model, metadata, saved_model, tmp_path):
    half = export_saved_model(model, metadata, tmp_path, weights="float16")
    sizes = [(folder / "saved_model.pb").stat().st_size for folder in (half, saved_model)]
    assert sizes[0] < 0.65 * sizes[1]


def test_unknown_weights_are_refused(model, metadata, tmp_path):
    with pytest.raises(InputError, match="Unknown kind of weights 'int4'. Allowed: float32, float16"):
        export_saved_model(model, metadata, tmp_path, weights="int4")
    assert list(tmp_path.iterdir()) == []


def test_all_exits_is_differentiable_after_reload(model, images, saved_model):
    reloaded_model = tf.saved_model.load(str(saved_model))  # Owns the variables of its signatures.
    signature = reloaded_model.signatures["all_exits"]

    def gradient(forward):
        inputs = tf.constant(images[:4])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = tf.add_n([tf.reduce_sum(each[:, 0]) for each in forward(inputs)])
        return tape.gradient(value, inputs)

    reloaded = gradient(lambda inputs: list(signature(images=inputs).values()))
    np.testing.assert_allclose(reloaded, gradient(model.logits), atol=1e-5)
    assert np.abs(reloaded).max() > 0


def test_image_bytes_are_decoded(images, saved_model):
    loaded = tf.saved_model.load(str(saved_model))
    signatures = loaded.signatures
    pixels = (images[:3, ..., 0] * 255).astype(np.uint8)
    answers = signatures["image_bytes"](bytes=tf.constant([_file(each, "PNG") for each in pixels]))
    expected = signatures["serving_default"](images=tf.constant(pixels[..., None] / np.float32(255)))
    np.testing.assert_allclose(answers["probabilities"], expected["probabilities"], atol=1e-5)


def test_image_bytes_of_another_size_and_colour_are_fitted(saved_model):
    loaded = tf.saved_model.load(str(saved_model))
    signature = loaded.signatures["image_bytes"]
    colour = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    answers = signature(bytes=tf.constant([_file(colour, "JPEG"), _file(colour, "PNG")]))
    assert answers["probabilities"].shape == (2, 10)


def _file(pixels, kind):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_warmup_requests_are_what_the_signatures_take(saved_model):
    from tensorflow_serving.apis import prediction_log_pb2

    loaded = tf.saved_model.load(str(saved_model))
    signatures = loaded.signatures
    warmed = set()
    for record in tf.data.TFRecordDataset(str(saved_model / WARMUP_FILE)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        signatures[request.model_spec.signature_name](**inputs)
        warmed.add(request.model_spec.signature_name)
    assert warmed == set(signatures)


def test_versions_count_up_and_carry_metadata_and_reports(model, metadata, tmp_path):
    report = tmp_path / "report.md"
    report.write_text("figures")
    (tmp_path / "out" / "7").mkdir(parents=True)
    version = export_saved_model(model, metadata, tmp_path / "out", [report])
    assert version == tmp_path / "out" / "8"
    assert Metadata.read(version) == metadata
    assert (version / "report.md").read_text() == "figures"


def test_failure_leaves_nothing_behind(model, metadata, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(export, "write_warmup_requests", fail)
    with pytest.raises(OSError, match="disk full"):
        export_saved_model(model, metadata, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
