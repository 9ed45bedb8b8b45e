"""Refuses SavedModels that do more than compute: TensorFlow runs whatever they hold, at loading too.

This is no sandbox: SECURITY.md says what it is worth.
"""

import re
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python.framework import op_def_registry

from rdi_keras.errors import InputError
from rdi_keras.runs import SAVED_MODEL_FILE

# TensorFlow marks operations that have an effect beside their outputs. Of those, these check a condition, or
# call functions, which are looked at themselves.
HARMLESS = {"Assert", "Case", "If", "StatefulPartitionedCall", "While"}
# Not marked, and yet they read files, call Python, run graphs that are data, or end the process.
REACHING = re.compile("Abort|Custom|Dataset|Debug|File|Immutable|Mlir|Proto|PyFunc|Reader|TPU|Tpu|Vocab")


def read_graphs(folder: Path) -> saved_model_pb2.SavedModel:
    """The description of a SavedModel whose functions compute and do nothing else.

    Functions that save and restore variables are let through where nothing but the saver names them: loading
    runs neither.

    Args:
        folder: of a version.

    Raises:
        InputError: if there is none, it is of TensorFlow 1, or a function holds another operation.
    """
    path = folder / SAVED_MODEL_FILE
    try:
        described = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise InputError(f"Cannot load the SavedModel {str(path)!r}: {error}. Export it again") from None
    graphs = described.meta_graphs
    # Of another kind TensorFlow would run what stands outside of functions too.
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise InputError(f"{str(path)!r} is of the kind of TensorFlow 1. Export it with training/export.py")
    functions = {each.signature.name: each for each in graphs[0].graph_def.library.function}
    if len(functions) != len(graphs[0].graph_def.library.function):
        raise InputError(
            f"Cannot load the SavedModel {str(path)!r}: two functions share a name. Export it again"
        )
    savers = _savers(graphs[0], functions)
    for name, function in functions.items():
        for node in function.node_def if name not in savers else ():
            called = [each.name for value in node.attr.values() for each in (value.func, *value.list.func)]
            unknown = {each for each in called if each} - set(functions)
            if unknown or not (node.op in functions or _computes(node.op)):
                raise InputError(
                    f"{str(path)!r} was not opened: its function {name!r} holds the operation {node.op!r}, "
                    "which may do more than compute, such as write files. Models that training/export.py "
                    "writes hold none. Get it again from where it came, or export it yourself"
                )
    return described


def _computes(operation: str) -> bool:
    """Whether an operation of TensorFlow has no effect beside its outputs."""
    definition = op_def_registry.get(operation)
    if definition is None or REACHING.search(operation):
        return False
    return operation in HARMLESS or not definition.is_stateful


def _savers(graph: meta_graph_pb2.MetaGraphDef, functions: dict) -> set[str]:
    """Names of the functions that the saver calls and nothing else mentions."""
    ends = {graph.saver_def.save_tensor_name.partition(":")[0], graph.saver_def.restore_op_name}
    nodes = [each for each in graph.graph_def.node if each.name in ends and "f" in each.attr]
    called = {each.attr["f"].func.name for each in nodes} & set(functions)
    # TensorFlow may exchange functions that implement the same interface.
    called = {each for each in called if "api_implements" not in functions[each].attr}
    library = graph.graph_def.library
    rest = [graph.object_graph_def, *(each for name, each in functions.items() if name not in called)]
    rest += [*library.gradient, *library.registered_gradients]  # Differentiation calls these.
    mentions = [each.SerializeToString() for each in rest]
    return {name for name in called if not any(name.encode() in each for each in mentions)}
