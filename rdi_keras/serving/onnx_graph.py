"""The adaptive network as one ONNX graph, which any ONNX runtime executes with segments really skipped.

A segment is converted on its own; an `If` around the next one asks whether anybody has stayed. One graph
means one call, one thread pool and no Python between the segments.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from rdi_keras.errors import InputError
from rdi_keras.inference.cost import cost_table
from rdi_keras.models import MultiExitModel
from rdi_keras.names import IMAGES, THRESHOLDS

OPSET = 17
OUTPUTS = ("probabilities", "label", "exit", "entropy", "macs")


def adaptive_onnx(model: MultiExitModel) -> onnx.ModelProto:
    """The graph of `rdi_keras.inference.adaptive`: the same answers, by another runtime.

    Args:
        model: the multi-exit model; fold its BatchNorms first (`fold_batch_norm`).

    Raises:
        InputError: if the converter cannot read one of the network's layers.

    Returns:
        A model with inputs `images` float32 `[B, H, W, C]` and `thresholds` float32 `[B, N-1]`, and outputs
        `probabilities`, `label`, `exit`, `entropy` and `macs` as in `adaptive`.
    """
    parts = []
    for number in range(1, model.num_exits + 1):
        try:
            parts.append(_convert(model, number))
        except Exception as error:  # The converter passes on whatever goes wrong in it.
            raise InputError(
                f"Segment {number} of this network cannot be converted to ONNX: "
                f"{' '.join(str(error).split())}. Choose the engine 'tensorflow'"
            ) from error
    top = _Nodes()
    top.node("Transpose", [IMAGES], ["features"], perm=[0, 3, 1, 2])
    logits, exits = _level(top, parts, 1, "features", THRESHOLDS)
    top.node("Softmax", [logits], ["probabilities"], axis=-1)
    top.node("ArgMax", [logits], ["label"], axis=-1, keepdims=0)
    top.node("Cast", [exits], ["exit"], to=TensorProto.INT32)
    top.entropy(logits, "entropy")
    cost = top.constant("cost", np.asarray([0, *cost_table(model).cumulative], np.float32))
    top.node("Gather", [cost, exits], ["macs"], axis=0)
    inputs = [
        helper.make_tensor_value_info(IMAGES, TensorProto.FLOAT, ["B", *model.input_shape[1:]]),
        helper.make_tensor_value_info(THRESHOLDS, TensorProto.FLOAT, ["B", model.num_exits - 1]),
    ]
    kinds = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT, TensorProto.FLOAT)
    outputs = [
        helper.make_tensor_value_info(
            name, kind, ["B", model.num_classes] if name == "probabilities" else ["B"]
        )
        for name, kind in zip(OUTPUTS, kinds, strict=True)
    ]
    graph = helper.make_graph(top.nodes, model.name, inputs, outputs, top.constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(made)
    return made


class _Nodes:
    """The nodes and constants of one graph while it is built."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def entropy(self, logits: str, name: str) -> str:
        likelihood = self.node("LogSoftmax", [logits], [f"{name}_log"], axis=-1)
        self.node("Exp", [likelihood], [f"{name}_p"])
        self.node("Mul", [f"{name}_p", likelihood], [f"{name}_terms"])
        axis = self.constant(f"{name}_axis", np.asarray([-1]))
        self.node("ReduceSum", [f"{name}_terms", axis], [f"{name}_sum"], keepdims=0)
        return self.node("Neg", [f"{name}_sum"], [name])


def _level(graph: _Nodes, parts: list, number: int, features: str, limits: str) -> tuple[str, str]:
    """Adds segment and head `number` and all that follows; names of the logits and exits of who is inside."""

    def own(name: str) -> str:
        return f"at_{number}/{name}"

    part = parts[number - 1]
    if number > 1 and _rank(part.graph.input[0]) == 4:
        # Changes nothing. ONNX Runtime fuses a residual block only where its input is in the runtime's own
        # blocked layout, as what a pooling layer gives is.
        features = graph.node("MaxPool", [features], [own("blocked")], kernel_shape=[1, 1])
    logits, after = _insert(graph, part, own, features)
    rows = graph.node("Shape", [logits], [own("rows")], end=1)
    here = numpy_helper.from_array(np.asarray([number], np.int64))
    exits = graph.node("ConstantOfShape", [rows], [own("exits")], value=here)
    if number == len(parts):
        return logits, exits
    entropy = graph.entropy(logits, own("entropy"))
    column = graph.constant(own("column"), np.asarray(number - 1))
    graph.node("Gather", [limits, column], [own("limit")], axis=1)
    graph.node("Less", [entropy, own("limit")], [own("leaves")])
    graph.node("Not", [own("leaves")], [own("stays")])
    graph.node("NonZero", [own("stays")], [own("where")])
    graph.node("Transpose", [own("where")], [own("inside")], perm=[1, 0])
    graph.node("Size", [own("where")], [own("number_inside")])
    nobody = graph.constant(own("nobody"), np.asarray(0))
    graph.node("Greater", [own("number_inside"), nobody], [own("somebody")])

    deeper, nothing = _Nodes(), _Nodes()
    deeper.node("Compress", [after, own("stays")], [own("features_inside")], axis=0)
    deeper.node("Compress", [limits, own("stays")], [own("limits_inside")], axis=0)
    found = _level(deeper, parts, number + 1, own("features_inside"), own("limits_inside"))
    for name, value, inner in zip(("logits", "exit"), (logits, exits), found, strict=True):
        deeper.node("ScatterND", [value, own("inside"), inner], [own(f"{name}_deeper")])
        nothing.node("Identity", [value], [own(f"{name}_kept")])
    answers = [own("answer_logits"), own("answer_exit")]
    graph.node(
        "If",
        [own("somebody")],
        answers,
        then_branch=_branch(deeper, own, "deeper"),
        else_branch=_branch(nothing, own, "kept"),
    )
    return answers[0], answers[1]


def _branch(nodes: _Nodes, own: Callable[[str], str], suffix: str) -> onnx.GraphProto:
    outputs = [
        helper.make_tensor_value_info(own(f"{name}_{suffix}"), kind, None)
        for name, kind in (("logits", TensorProto.FLOAT), ("exit", TensorProto.INT64))
    ]
    return helper.make_graph(nodes.nodes, own(suffix), [], outputs, nodes.constants)


def _insert(
    graph: _Nodes, part: onnx.ModelProto, own: Callable[[str], str], features: str
) -> tuple[str, str]:
    """Adds a converted part with all its names made its own; returns names of its logits and features."""
    names = {part.graph.input[0].name: features, "": ""}

    def renamed(name: str) -> str:
        return names.get(name) or own(name) if name else ""

    for node in part.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = own(node.name)
        copy.input[:] = [renamed(name) for name in node.input]
        copy.output[:] = [renamed(name) for name in node.output]
        graph.nodes.append(copy)
    for constant in part.graph.initializer:
        copy = onnx.TensorProto()
        copy.CopyFrom(constant)
        copy.name = renamed(constant.name)
        graph.constants.append(copy)
    logits, *after = [renamed(output.name) for output in part.graph.output]
    return logits, after[0] if after else ""


def _convert(model: MultiExitModel, number: int) -> onnx.ModelProto:
    """Segment and head of an exit: features, channels first, to logits and the next features."""
    import tf2onnx

    segment, head = model.segments[number - 1], model.heads[number - 1]
    last = number == model.num_exits

    def run(features: tf.Tensor) -> tuple:
        features = segment(features, training=False)
        logits = tf.cast(head(features, training=False), tf.float32)
        return (logits,) if last else (logits, features)

    spec = [tf.TensorSpec(segment.input_shape, tf.float32, "features")]
    maps = len(segment.output_shape) == 4 and not last
    converted, _ = tf2onnx.convert.from_function(
        tf.function(run, input_signature=spec, autograph=False),
        spec,
        opset=OPSET,
        inputs_as_nchw=["features:0"] if len(segment.input_shape) == 4 else None,
        outputs_as_nchw=["Identity_1:0"] if maps else None,
    )
    onnx.checker.check_model(converted)  # It hands on operations that ONNX does not have.
    return _with_fixed_reshapes(converted)


def _with_fixed_reshapes(converted: onnx.ModelProto) -> onnx.ModelProto:
    """Shapes that are known but for the batch become constants; the converter computes them at every call."""
    converted = onnx.shape_inference.infer_shapes(converted, data_prop=True)
    found = [*converted.graph.value_info, *converted.graph.output]
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in found}
    for node in converted.graph.node:
        shape = shapes.get(node.output[0], [])
        if node.op_type == "Reshape" and shape and all(shape[1:]):
            constant = numpy_helper.from_array(np.asarray([-1, *shape[1:]], np.int64), f"{node.name}_shape")
            converted.graph.initializer.append(constant)
            node.input[1] = constant.name
    needed = {output.name for output in converted.graph.output}
    for node in reversed(list(converted.graph.node)):  # In the order of computation, so users come first.
        if needed.isdisjoint(node.output):
            converted.graph.node.remove(node)
        else:
            needed.update(node.input)
    for constant in list(converted.graph.initializer):
        if constant.name not in needed:
            converted.graph.initializer.remove(constant)
    return converted


def _rank(value: onnx.ValueInfoProto) -> int:
    return len(value.type.tensor_type.shape.dim)
