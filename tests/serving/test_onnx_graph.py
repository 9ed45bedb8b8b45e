import collections
import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers

from rdi_keras.errors import InputError
from rdi_keras.inference import adaptive, entropy, fold_batch_norm
from rdi_keras.metadata import describe
from rdi_keras.models import Backbone, MultiExitModel, Stage, backbone
from rdi_keras.serving import Predictor, export_saved_model
from rdi_keras.serving.engines import OnnxEngine
from rdi_keras.serving.onnx_graph import adaptive_onnx


def no_whole_model():
    raise AssertionError("nobody asked for logits")


def engine_of(model):
    return OnnxEngine(adaptive_onnx(fold_batch_norm(model)).SerializeToString(), no_whole_model, 1)


def small(num_exits=3):
    """Random weights, entropies spread over 0 … ln 4, features of maps and then of vectors."""
    keras.utils.set_random_seed(1)

    def maps(features):
        return layers.Rescaling(3.0)(layers.Conv2D(3, 3, padding="same", activation="relu")(features))

    def vectors(features):
        return layers.Dense(6, activation="relu")(layers.Flatten()(features))

    def head(features):
        return layers.Rescaling(2.0)(layers.Dense(4)(layers.Flatten()(features)))

    bodies = [*[maps] * (num_exits - 1), vectors]
    return MultiExitModel.from_backbone(
        Backbone("small", (4, 4, 1), tuple(Stage(body, head) for body in bodies))
    )


MODELS = {count: small(count) for count in (1, 3)}
ENGINES = {count: engine_of(model) for count, model in MODELS.items()}


@pytest.mark.parametrize("count", MODELS)
@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.one_of(st.sampled_from([0, 1, 300]), st.integers(0, 300)),
    low=st.floats(-0.5, 1.5),
    spread=st.floats(0, 1),
)
def test_answers_are_tensorflows(count, seed, size, low, spread):
    model, random = MODELS[count], np.random.default_rng(seed)
    images = random.uniform(0, 1, (size, 4, 4, 1)).astype(np.float32)
    thresholds = random.uniform(low, low + spread, (size, count - 1)).astype(np.float32)
    entropies = np.stack([entropy(each) for each in model.logits(images)], axis=1)
    assume((np.abs(entropies[:, :-1] - thresholds) > 1e-5).all())
    expected = adaptive(model, images, thresholds)
    found = ENGINES[count].adaptive(images, thresholds)
    assert set(found) == set(expected)
    for name, value in found.items():
        assert value.dtype == expected[name].dtype.as_numpy_dtype
        np.testing.assert_allclose(value, expected[name], atol=1e-5)


@pytest.mark.parametrize("heads", ["paper", "light"])
@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("small_cnn", (28, 28, 1), {}),
        ("resnet20", (32, 32, 3), {}),
        ("mobilenet_v2", (32, 32, 3), {"width": 0.25}),
    ],
)
def test_the_papers_networks(name, shape, options, heads):
    keras.utils.set_random_seed(0)
    model = MultiExitModel.from_backbone(backbone(name, shape, 10, heads=heads, **options))
    images = np.random.default_rng(0).uniform(0, 1, (9, *shape)).astype(np.float32)
    entropies = np.stack([entropy(each) for each in model.logits(images)], axis=1)[:, :-1]
    # Between two samples: a threshold that equals an entropy may be decided either way.
    middle = np.sort(entropies, axis=0)[3:5].mean(axis=0)
    thresholds = np.tile(middle, (9, 1)).astype(np.float32)
    expected, found = adaptive(model, images, thresholds), engine_of(model).adaptive(images, thresholds)
    np.testing.assert_array_equal(found["exit"], expected["exit"])
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=1e-4)


def test_not_a_number_never_leaves_early():
    images = np.full((2, 4, 4, 1), np.nan, np.float32)
    found = ENGINES[3].adaptive(images, np.full((2, 2), 9.0, np.float32))
    np.testing.assert_array_equal(found["exit"], [3, 3])


@pytest.mark.parametrize(("leaving", "segments"), [(1, {1}), (2, {1, 2}), (3, {1, 2, 3})])
def test_segments_that_nobody_reaches_are_not_run(tmp_path, leaving, segments):
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    graph = adaptive_onnx(MODELS[3]).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    limits = np.zeros((5, 2), np.float32)
    limits[:, leaving - 1 : leaving] = np.inf
    session.run(None, {"images": np.ones((5, 4, 4, 1), np.float32), "thresholds": limits})
    with open(session.end_profiling()) as file:
        events = [each for each in json.load(file) if each["name"].endswith("kernel_time")]
    ran = collections.Counter(
        int(each["name"][3]) for each in events if each["args"]["op_name"] in ("Conv", "MatMul", "Gemm")
    )
    assert set(ran) == segments


def test_the_graph_is_valid_and_names_its_signature():
    graph = adaptive_onnx(MODELS[3])
    onnx.checker.check_model(graph, full_check=True)
    assert [each.name for each in graph.graph.input] == ["images", "thresholds"]
    assert [each.name for each in graph.graph.output] == ["probabilities", "label", "exit", "entropy", "macs"]


@keras.saving.register_keras_serializable(package="tests")
class Unconvertible(layers.Layer):
    """A layer that ONNX has no operation for."""

    def call(self, features):
        return tf.math.special.bessel_i0(features)


def test_a_network_that_cannot_be_converted_is_exported_for_tensorflow(tmp_path):
    stage = Stage(Unconvertible(), lambda features: layers.Dense(2)(layers.Flatten()(features)))
    model = MultiExitModel.from_backbone(Backbone("odd", (4, 4, 1), (stage,)))
    with pytest.raises(InputError, match="Segment 1 of this network cannot be converted to ONNX.*tensorflow"):
        adaptive_onnx(model)
    metadata = describe(model, ["a", "b"], "digits", "0.1", "odd")
    with pytest.warns(UserWarning, match="Exported without adaptive.onnx"):
        version = export_saved_model(model, metadata, tmp_path)
    assert Predictor(version).engine == "tensorflow"


def test_what_is_no_graph_is_refused():
    with pytest.raises(InputError, match="Cannot load the ONNX graph.*Export the model again"):
        OnnxEngine(b"nonsense", no_whole_model)
