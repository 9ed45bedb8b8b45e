"""A small server that speaks TensorFlow Serving's gRPC and REST on this machine, for tests and demos.

    python -m rdi_keras.cli.loopback saved_models/digits

It answers the official protos from the SavedModel that TensorFlow's own loader loaded. It is no replacement
of TensorFlow Serving: it batches nothing across requests, runs under Python's lock, serves one model, checks
nobody, and listens on 127.0.0.1 only.
"""

import contextlib
import math
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from rdi_keras.errors import InputError
from rdi_keras.names import SERVING_DEFAULT
from rdi_keras.serving.loopback_rest import MAX_REQUEST, start_rest
from rdi_keras.serving.transports import CallFailed
from rdi_keras.serving.versions import VersionedModel

HOST = "127.0.0.1"

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", MAX_REQUEST),
    (
        "grpc.so_reuseport",
        0,
    ),  # Else two servers could share a port, and clients would not know whom they ask.
]


class LoopbackServer:
    """Serves the newest versions in a folder until it is stopped; use it in a `with`.

    A new version, which appears in the folder by a rename, takes over in one step as soon as it is loaded;
    requests under way finish on the one they began with.

    Args:
        folder: of versions, such as `saved_models/digits`.
        model: its name in requests; default: the folder's.
        keep: how many of the newest versions stay, for requests that name one.
        port: for gRPC, 0 for any that is free; `rest_port` alike.
        rest_port: for REST.
        poll: seconds between looks at the folder.
        threads: how many gRPC requests run at once.

    Attributes:
        address: `127.0.0.1:port` of gRPC.
        rest_address: the same of REST.

    Raises:
        InputError: if there is no version to serve, or a port is taken.

    Examples:
        >>> with LoopbackServer("saved_models/digits") as server:
        ...     Client(server.address, "digits").predict(images)
    """

    def __init__(
        self,
        folder: str | Path,
        model: str | None = None,
        keep: int = 1,
        port: int = 0,
        rest_port: int = 0,
        poll: float = 0.2,
        threads: int = 4,
    ):
        folder = Path(folder).resolve()
        self.model = folder.name if model is None else model
        self.versions = VersionedModel(folder, keep)
        self._grpc = grpc.server(futures.ThreadPoolExecutor(threads), options=_OPTIONS)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(self), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Model(self), self._grpc)
        try:
            self.address = f"{HOST}:{self._grpc.add_insecure_port(f'{HOST}:{port}')}"
            self._rest = start_rest(HOST, rest_port, self.chosen)
        except (RuntimeError, OSError) as error:
            raise InputError(f"Cannot listen on port {port} or {rest_port}: {error}. Give others") from None
        self.rest_address = f"{HOST}:{self._rest.server_port}"
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, args=[poll], daemon=True)
        self._grpc.start()
        self._watcher.start()

    def __enter__(self) -> "LoopbackServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, grace: float = 5.0) -> None:
        """Takes no more requests and waits up to `grace` seconds for those under way."""
        self._stopping.set()
        self._watcher.join()
        self._rest.shutdown()
        self._rest.server_close()
        self._grpc.stop(grace).wait()

    def chosen(self, model: str) -> VersionedModel:
        """The versions of a model by its name; `CallFailed` if it is not the one that is served."""
        if model != self.model:
            raise CallFailed(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({model})")
        return self.versions

    def _watch(self, poll: float) -> None:
        while not self._stopping.wait(poll):
            self.versions.refresh()


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server: LoopbackServer):
        self._server = server

    def Predict(  # noqa: N802 - the proto's name.
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        with _failures(context):
            version = self._server.chosen(request.model_spec.name).version(_number(request.model_spec))
            inputs = {name: _array(value) for name, value in request.inputs.items()}
            name = request.model_spec.signature_name or SERVING_DEFAULT
            response = predict_pb2.PredictResponse(
                model_spec=_spec(request.model_spec.name, version.number, name)
            )
            for key, value in version.run(name, inputs).items():
                response.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
            return response

    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        with _failures(context):
            version = self._server.chosen(request.model_spec.name).version(_number(request.model_spec))
            response = get_model_metadata_pb2.GetModelMetadataResponse(
                model_spec=_spec(request.model_spec.name, version.number)
            )
            response.metadata["signature_def"].Pack(version.definitions)
            return response


class _Model(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, server: LoopbackServer):
        self._server = server

    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        with _failures(context):
            return self._server.chosen(request.model_spec.name).status(_number(request.model_spec))


@contextlib.contextmanager
def _failures(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except CallFailed as failed:
        context.abort(failed.code, failed.detail)


def _array(value: tensor_pb2.TensorProto) -> np.ndarray:
    """`CallFailed` if it is none, or one value stands for more than a request may hold."""
    size = math.prod(each.size for each in value.tensor_shape.dim)
    try:
        if not 0 <= size <= MAX_REQUEST // 4:
            raise ValueError(f"{size} values")
        return tf.make_ndarray(value)
    except (TypeError, ValueError) as error:
        raise CallFailed(grpc.StatusCode.INVALID_ARGUMENT, f"No tensor that can be read: {error}") from None


def _number(spec: model_pb2.ModelSpec) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def _spec(model: str, number: int, signature: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=model, signature_name=signature)
    spec.version.value = number
    return spec
