"""How a request travels to a TensorFlow Serving server: gRPC or REST, with the same calls and errors."""

import base64
import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

UNKNOWN_VERSION = 0
PREDICT_METHOD = "tensorflow/serving/predict"

# As TensorFlow Serving maps its errors to HTTP.
HTTP_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.lb_policy_name", "round_robin"),  # Over all addresses of a name, as a cluster's service has them.
    # gRPC waits a second before it tries a lost server again: a retry before that would ask nobody.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class CallFailed(Exception):  # noqa: N818 - an outcome that the client turns into an error for users.
    """One try of a call came to nothing.

    Attributes:
        code: why, in gRPC's terms for either transport.
        detail: the server's or the system's words, in one line.
    """

    def __init__(self, code: grpc.StatusCode, detail: object):
        self.code = code
        self.detail = " ".join(str(detail).split())
        super().__init__(f"{code.name}: {self.detail}")


@dataclass(frozen=True)
class Signature:
    """What a signature takes and gives, by name; dimension 0 is the batch."""

    inputs: dict[str, tf.TensorSpec]
    outputs: dict[str, tf.TensorSpec]


@dataclass(frozen=True)
class VersionState:
    """One version of a model on a server.

    Attributes:
        version: its number.
        state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        error: why it did not load; empty if nothing went wrong.
    """

    version: int
    state: str
    error: str


class Transport(Protocol):
    """What a client needs of a server. `timeout` is in seconds; every call raises `CallFailed`."""

    def __init__(self, address: str, model: str, version: int | None):
        """For one model, on the server at `host:port`; `version` is its number, `None` for the newest."""

    def predict(
        self, name: str, signature: Signature, inputs: dict[str, np.ndarray], timeout: float
    ) -> tuple[dict[str, np.ndarray], int]:
        """Outputs by name, and the version that answered."""

    def signatures(self, timeout: float) -> dict[str, Signature]:
        """All signatures of the model, by name."""

    def state(self, timeout: float) -> list[VersionState]:
        """State of the versions that the server knows, the newest first."""

    def close(self) -> None:
        """Gives connections back."""


class GrpcTransport:
    """Speaks TensorFlow Serving's gRPC with the official protos; no proxy, no encryption."""

    def __init__(self, address: str, model: str, version: int | None):
        self._spec = model_pb2.ModelSpec(name=model)
        if version is not None:
            self._spec.version.value = version
        self._channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self, name: str, signature: Signature, inputs: dict[str, np.ndarray], timeout: float
    ) -> tuple[dict[str, np.ndarray], int]:
        request = predict_pb2.PredictRequest(model_spec=self._spec)
        request.model_spec.signature_name = name
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        response = self._call(self._prediction.Predict, request, timeout)
        outputs = {key: tf.make_ndarray(value) for key, value in response.outputs.items()}
        return outputs, response.model_spec.version.value

    def signatures(self, timeout: float) -> dict[str, Signature]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec, metadata_field=["signature_def"]
        )
        response = self._call(self._prediction.GetModelMetadata, request, timeout)
        found = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        return _signatures(found)

    def state(self, timeout: float) -> list[VersionState]:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec)
        return _states(self._call(self._model.GetModelStatus, request, timeout))

    def close(self) -> None:
        self._channel.close()

    @staticmethod
    def _call(method: Callable[..., Any], request: Any, timeout: float) -> Any:
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise CallFailed(error.code(), error.details()) from None


class RestTransport:
    """Speaks TensorFlow Serving's REST in column format; one connection a request, no proxy, no encryption.

    The time-out holds for each wait for the network. REST does not say which version answered.
    """

    def __init__(self, address: str, model: str, version: int | None):
        self._address = address
        self._version = version
        self._path = f"/v1/models/{quote(model, safe='')}"
        if version is not None:
            self._path += f"/versions/{version}"

    def predict(
        self, name: str, signature: Signature, inputs: dict[str, np.ndarray], timeout: float
    ) -> tuple[dict[str, np.ndarray], int]:
        columns = {key: _as_json(value) for key, value in inputs.items()}
        body = json.dumps({"signature_name": name, "inputs": columns})
        outputs = self._call("POST", f"{self._path}:predict", body, timeout)["outputs"]
        if len(signature.outputs) == 1:  # The format leaves the name of an only output out.
            outputs = dict.fromkeys(signature.outputs, outputs)
        arrays = {
            key: np.asarray(outputs[key], spec.dtype.as_numpy_dtype)
            for key, spec in signature.outputs.items()
        }
        return arrays, UNKNOWN_VERSION if self._version is None else self._version

    def signatures(self, timeout: float) -> dict[str, Signature]:
        response = self._call("GET", f"{self._path}/metadata", None, timeout)
        found = get_model_metadata_pb2.SignatureDefMap()
        definitions = response["metadata"]["signature_def"]
        return _signatures(json_format.ParseDict(definitions, found, ignore_unknown_fields=True))

    def state(self, timeout: float) -> list[VersionState]:
        response = self._call("GET", self._path, None, timeout)
        return _states(json_format.ParseDict(response, get_model_status_pb2.GetModelStatusResponse()))

    def close(self) -> None:
        """Nothing is kept open."""

    def _call(self, method: str, path: str, body: str | None, timeout: float) -> dict:
        connection = http.client.HTTPConnection(self._address, timeout=timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            status, text = response.status, response.read()
        except TimeoutError as error:
            raise CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, error) from None
        except (OSError, http.client.HTTPException) as error:
            detail = f"{type(error).__name__}: {error}"
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, detail) from None
        finally:
            connection.close()
        return _parse(status, text)


def _parse(status: int, text: bytes) -> dict:
    try:
        response = json.loads(text)
    except ValueError:
        response = {"error": f"HTTP {status} without JSON: {text[:100]!r}"}
    if status == 200 and "error" not in response:
        return response
    codes = {number: code for code, number in HTTP_CODES.items()}
    raise CallFailed(codes.get(status, grpc.StatusCode.UNKNOWN), response.get("error", f"HTTP {status}"))


def _as_json(value: np.ndarray) -> list:
    if value.dtype == object:
        return [{"b64": base64.b64encode(each).decode()} for each in value]
    return value.tolist()


def _signatures(definitions: get_model_metadata_pb2.SignatureDefMap) -> dict[str, Signature]:
    return {
        name: Signature(_specs(definition.inputs), _specs(definition.outputs))
        for name, definition in definitions.signature_def.items()
        if definition.method_name == PREDICT_METHOD  # Others belong to the loader.
    }


def _specs(tensors: Mapping) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.dtypes.as_dtype(info.dtype), name)
        for name, info in sorted(tensors.items())
    }


def _states(response: get_model_status_pb2.GetModelStatusResponse) -> list[VersionState]:
    names = get_model_status_pb2.ModelVersionStatus.State.Name
    states = [
        VersionState(each.version, names(each.state), each.status.error_message)
        for each in response.model_version_status
    ]
    return sorted(states, key=lambda each: -each.version)
