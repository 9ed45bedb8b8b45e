"""The versions of one SavedModel as the loopback server holds them: found, loaded, rolled over."""

import gc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, prediction_log_pb2

from rdi_keras.errors import InputError
from rdi_keras.files import check_unchanged
from rdi_keras.names import SERVING_DEFAULT
from rdi_keras.runs import SAVED_MODEL_FILE
from rdi_keras.serving.graphs import read_graphs
from rdi_keras.serving.transports import CallFailed
from rdi_keras.serving.warmup import WARMUP_FILE

_State = get_model_status_pb2.ModelVersionStatus


@dataclass(frozen=True)
class LoadedVersion:
    """A SavedModel in memory; a request that holds it finishes on it, whatever is rolled over meanwhile.

    Attributes:
        number: of the version.
        definitions: its signatures, as the file describes them.
        loaded: what TensorFlow's own loader returned; owns the variables.
    """

    number: int
    definitions: get_model_metadata_pb2.SignatureDefMap = field(repr=False)
    loaded: Any = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> "LoadedVersion":
        """Loads a version's folder and replays its warm-up requests, as TensorFlow Serving does.

        Raises:
            InputError: if the model may do more than compute, or is not the one that was exported.
            Exception: whatever TensorFlow raises for a damaged model.
        """
        graph = read_graphs(folder).meta_graphs[0]
        check_unchanged(folder / SAVED_MODEL_FILE, "SavedModel")
        definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=graph.signature_def)
        version = cls(int(folder.name), definitions, tf.saved_model.load(str(folder)))
        if (folder / WARMUP_FILE).is_file():
            for record in tf.data.TFRecordDataset(str(folder / WARMUP_FILE)).as_numpy_iterator():
                request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
                inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
                version.run(request.model_spec.signature_name, inputs)
        return version

    def definition(self, signature: str) -> meta_graph_pb2.SignatureDef:
        """The signature's definition; `CallFailed` with TensorFlow Serving's words if there is none."""
        name = signature or SERVING_DEFAULT
        if name not in self.loaded.signatures:
            raise CallFailed(
                grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.'
            )
        return self.definitions.signature_def[name]

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
        """Outputs of a signature, by name, for arrays by name.

        Raises:
            CallFailed: if there is no such signature, or it does not take the inputs.
        """
        definition = self.definition(signature)
        if set(inputs) != set(definition.inputs):
            raise CallFailed(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"input size does not match signature: sent {sorted(inputs)}, takes "
                f"{sorted(definition.inputs)}",
            )
        for name, value in inputs.items():  # TensorFlow's kernels end the process at some other shapes.
            shape = tf.TensorShape(definition.inputs[name].tensor_shape)
            if not shape.is_compatible_with(value.shape):
                raise CallFailed(
                    grpc.StatusCode.INVALID_ARGUMENT, f"input {name} takes shape {shape}, not {value.shape}"
                )
        try:
            tensors = {name: tf.constant(value) for name, value in inputs.items()}
            return self.loaded.signatures[signature or SERVING_DEFAULT](**tensors)
        except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
            raise CallFailed(grpc.StatusCode.INVALID_ARGUMENT, error) from None


class VersionedModel:
    """The newest versions in a folder such as `saved_models/digits`, always at least one of them loaded.

    A newer version is loaded and warmed up beside the older ones, then takes over in one step; older ones go
    after that. A version that does not load leaves the others as they are.

    Args:
        folder: holds a folder per version, named by its number.
        keep: how many of the newest versions stay, for requests that name one.

    Raises:
        InputError: if no version can be loaded, or `keep` is below 1.
    """

    def __init__(self, folder: Path, keep: int = 1):
        if keep < 1:
            raise InputError(f"keep must be at least 1. Received: {keep}")
        self.folder, self._keep = folder, keep
        # Replaced, never changed: whoever has read it sees one consistent set.
        self._serving: dict[int, LoadedVersion] = {}
        self._states: dict[int, tuple[int, str]] = {}
        self._failed: set[int] = set()
        self.refresh()
        if not self._serving:
            errors = "; ".join(error for _, error in self._states.values())
            raise InputError(
                f"No version to serve in {str(folder)!r}. Give a folder of numbered versions such as "
                f"saved_models/digits{': ' if errors else ''}{errors}"
            )

    def refresh(self) -> None:
        """Looks at the folder, loads what is new, and rolls over. Not for two threads at a time."""
        files = self.folder.glob(f"*/{SAVED_MODEL_FILE}")
        found = sorted(int(each.parent.name) for each in files if each.parent.name.isdecimal())
        self._failed &= set(found)
        while missing := self._wanted(found) - set(self._serving):
            self._load(max(missing))
        loaded = self._wanted(found)
        if not loaded:
            return  # Better an old version than none.
        gone = set(self._serving) - loaded
        for number in gone:
            self._states[number] = (_State.END, "")
        self._serving = {number: self._serving[number] for number in loaded}
        if gone:
            gc.collect()  # What TensorFlow loads holds itself, tens of megabytes a version.

    def _wanted(self, found: list[int]) -> set[int]:
        return set([number for number in found if number not in self._failed][-self._keep :])

    def _load(self, number: int) -> None:
        self._states[number] = (_State.LOADING, "")
        try:
            version = LoadedVersion.load(self.folder / str(number))
        except Exception as error:  # What TensorFlow raises for a damaged file is not documented.
            self._states[number] = (_State.END, f"{type(error).__name__}: {error}")
            self._failed.add(number)
            return
        self._serving = {**self._serving, number: version}
        self._states[number] = (_State.AVAILABLE, "")

    def version(self, number: int | None = None) -> LoadedVersion:
        """The version with this number, or the newest.

        Raises:
            CallFailed: if it is not loaded.
        """
        serving = self._serving
        chosen = max(serving) if number is None else number
        if chosen not in serving:
            detail = f"Servable not found for request: Specific({self.folder.name}, {number})"
            raise CallFailed(grpc.StatusCode.NOT_FOUND, detail)
        return serving[chosen]

    def status(self, number: int | None = None) -> get_model_status_pb2.GetModelStatusResponse:
        """States of all versions seen, or of one.

        Raises:
            CallFailed: if that one was never seen.
        """
        states = dict(self._states)
        chosen = sorted(states, reverse=True) if number is None else [number]
        if not set(chosen) <= set(states):
            raise CallFailed(grpc.StatusCode.NOT_FOUND, f"Could not find version {number} of the model")
        response = get_model_status_pb2.GetModelStatusResponse()
        for each in chosen:
            state, error = states[each]
            status = response.model_version_status.add(version=each, state=state)
            status.status.error_code = 2 if error else 0
            status.status.error_message = error
        return response
