"""SavedModels whose graphs do more than compute, and ONNX files that reach out of their folder."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.trackable import resource

from rdi_keras.errors import InputError
from rdi_keras.files import SUMS_FILE
from rdi_keras.serving import Predictor
from rdi_keras.serving.engines import OnnxEngine
from rdi_keras.serving.graphs import read_graphs
from rdi_keras.serving.loopback import LoopbackServer
from rdi_keras.serving.predictor import ONNX_FILE

IMAGES = np.zeros([1, 8, 8, 1], np.float32)
ANSWERS = {
    "probabilities": ([10], tf.float32),
    "label": ([], tf.int64),
    "exit": ([], tf.int32),
    "entropy": ([], tf.float32),
    "macs": ([], tf.float32),
}


class Written(resource.CapturableResource):
    """Writes a file when it is loaded."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def _create_resource(self):
        return tf.raw_ops.MutexV2(shared_name="rdi_trap")

    def _initialize(self):
        tf.io.write_file(self.path, "x")


def make(folder: Path, act, at_load: Path | None = None) -> None:
    """Replaces the SavedModel of a version by one that looks like ours and does `act()` when it is asked."""
    images = tf.TensorSpec([None, 8, 8, 1], tf.float32, "images")
    thresholds = tf.TensorSpec([None, 2], tf.float32, "thresholds")

    def answers(images):
        act()
        count = tf.shape(images)[:1]
        return {name: tf.zeros(tf.concat([count, shape], 0), kind) for name, (shape, kind) in ANSWERS.items()}

    @tf.function(input_signature=[images])
    def serving_default(images):
        return answers(images)

    @tf.function(input_signature=[images, thresholds])
    def adaptive(images, thresholds):
        return answers(images)

    @tf.function(input_signature=[images])
    def all_exits(images):
        return {f"exit_{number}": tf.zeros([tf.shape(images)[0], 10]) for number in (1, 2, 3)}

    module = tf.Module()
    if at_load:
        module.written = Written(str(at_load))
    for name in ("saved_model.pb", ONNX_FILE):
        (folder / name).unlink()
    shutil.rmtree(folder / "variables")
    signatures = {"serving_default": serving_default, "adaptive": adaptive, "all_exits": all_exits}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def calls_python():
    tf.py_function(lambda: 0, [], tf.int32)


ACTS = {
    "writes a file": (lambda path: tf.io.write_file(str(path), "x"), "WriteFile"),
    "prints into a file": (lambda path: tf.print("x", output_stream=f"file://{path}"), "PrintV2"),
    "reads a file": (lambda path: tf.io.read_file("/etc/hostname"), "ReadFile"),
    "lists files": (lambda path: tf.io.matching_files("/etc/*"), "MatchingFiles"),
    "saves a checkpoint": (lambda path: tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=["x"], shape_and_slices=[""], tensors=[tf.zeros([1])]
    ), "SaveV2"),
    "calls Python": (lambda path: calls_python(), "EagerPyFunc"),
    "ends the process": (lambda path: tf.raw_ops.Abort(error_msg="", exit_without_error=True), "Abort"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ACTS)
def test_a_graph_that_does_more_than_compute_is_not_opened(version, canary, kind):
    act, operation = ACTS[kind]
    make(version, lambda: act(canary))
    with pytest.raises(InputError, match=rf"not opened: .*'{operation}'.*Get it again from where it came"):
        Predictor(version).predict(IMAGES)
    with pytest.raises(InputError, match=operation):
        LoopbackServer(version.parent)


def test_nor_is_one_that_acts_as_it_is_loaded(version, canary):
    make(version, lambda: None, at_load=canary)
    with pytest.raises(InputError, match="not opened"):
        Predictor(version)
    tf.saved_model.load(str(version))  # The trap works.
    canary.unlink()


def test_the_trap_works(version, canary):
    make(version, lambda: tf.io.write_file(str(canary), "x"))
    tf.saved_model.load(str(version)).signatures["serving_default"](images=tf.constant(IMAGES))
    canary.unlink()


def describe(version: Path) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())


def function(described, part: str):
    """The function whose name has this part."""
    library = described.meta_graphs[0].graph_def.library.function
    return next(each for each in library if part in each.signature.name)


def call(described, name: str) -> None:
    """Makes a function that serves call another one."""
    node = function(described, "all_exits").node_def.add(name="trap", op="StatefulPartitionedCall")
    node.attr["f"].func.name = name


def saver_called(described):
    call(described, function(described, "traced_save").signature.name)


def saver_served(described):
    concrete = described.meta_graphs[0].object_graph_def.concrete_functions
    concrete[function(described, "traced_save").signature.name].CopyFrom(next(iter(concrete.values())))


def saver_exchanged(described):
    function(described, "traced_save").attr["api_implements"].s = b"interface"


def foreign_function(described):
    call(described, "a_function_of_another_model")


def foreign_operation(described):
    function(described, "all_exits").node_def.add(name="trap", op="OperationOfSomeLibrary")


def differentiated(described):
    library = described.meta_graphs[0].graph_def.library
    saver = function(described, "traced_save").signature.name
    library.registered_gradients.add(gradient_func=saver, registered_op_type="trap")


def differentiated_as_before(described):
    library = described.meta_graphs[0].graph_def.library
    saver = function(described, "traced_save").signature.name
    library.gradient.add(function_name=function(described, "all_exits").signature.name, gradient_func=saver)


def first_version(described):
    described.meta_graphs[0].ClearField("object_graph_def")


def two_graphs(described):
    described.meta_graphs.add().CopyFrom(described.meta_graphs[0])


CHANGES = [
    saver_called,
    saver_served,
    saver_exchanged,
    foreign_function,
    foreign_operation,
    differentiated,
    differentiated_as_before,
    first_version,
    two_graphs,
]


@pytest.mark.parametrize("change", CHANGES)
def test_ways_around_the_look_are_closed(version, change):
    described = describe(version)
    change(described)
    (version / "saved_model.pb").write_bytes(described.SerializeToString())
    with pytest.raises(InputError):
        read_graphs(version)


def test_what_is_no_graph_is_refused(version):
    (version / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match="Cannot load"):
        read_graphs(version)


@pytest.mark.parametrize("name", ["digits/1", "mnist/1"])
def test_the_models_that_ship_only_compute(pytestconfig, name):
    assert read_graphs(pytestconfig.rootpath / "saved_models" / name).meta_graphs


@pytest.mark.parametrize("place", ["../secret.bin", "absolute", "link.bin"])
def test_an_onnx_file_reads_nothing_outside_its_folder(version, tmp_path, place):
    secret = tmp_path / "exported" / "secret.bin"
    secret.write_bytes(bytes(400))
    (version / "link.bin").symlink_to(secret)
    weights = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[100], data_location=TensorProto.EXTERNAL
    )
    weights.external_data.add(key="location", value=str(secret) if place == "absolute" else place)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [100])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (version / ONNX_FILE).write_bytes(model.SerializeToString())
    (version / SUMS_FILE).unlink()  # Else that refuses it.
    with pytest.raises(InputError, match="Cannot load the ONNX (?!.*damaged)"):
        Predictor(version, "onnxruntime")


def test_an_onnx_file_of_other_shapes_is_refused(version):
    floats = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(name, floats, ["N", "M"]) for name in ("images", "thresholds")]
    output = helper.make_tensor_value_info("y", floats, ["N", "M"])
    graph = helper.make_graph(
        [helper.make_node("Add", ["images", "thresholds"], ["y"])], "g", inputs, [output]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, version / ONNX_FILE)
    with pytest.raises(InputError, match="Cannot load the ONNX"):
        OnnxEngine(str(version / ONNX_FILE), lambda: None)
