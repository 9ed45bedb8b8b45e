"""TensorFlow Serving's REST for the loopback server: predict in both formats, metadata, status."""

import base64
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from google.protobuf.message import Message

from rdi_keras.serving.transports import HTTP_CODES, CallFailed
from rdi_keras.serving.versions import LoadedVersion, VersionedModel

MAX_REQUEST = 2**28  # Bytes: more than 256 large images take.
_PATH = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>\d{1,18}))?(?P<verb>:predict|/metadata)?"
)


def start_rest(host: str, port: int, models: Callable[[str], VersionedModel]) -> ThreadingHTTPServer:
    """Starts answering in threads of its own.

    Args:
        host: to listen on.
        port: 0 for any that is free.
        models: a model by its name, or `CallFailed`.

    Raises:
        OSError: if the port is taken.
    """
    server = _Server((host, port), _Handler)
    server.models = models
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    models: Callable[[str], VersionedModel]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10  # Seconds until a silent connection is closed.

    def do_GET(self) -> None:
        self._answer({None: _status, "/metadata": _metadata}, None)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not re.fullmatch(r"\d{1,9}", length) or int(length) > MAX_REQUEST:
            self.send_error(413, f"A request holds 0 to {MAX_REQUEST} bytes")
            return
        self._answer({":predict": _predict}, self.rfile.read(int(length)))

    def _answer(self, verbs: dict[str | None, Callable], body: bytes | None) -> None:
        try:
            code, answer = 200, self._asked(verbs, body)
        except CallFailed as failed:
            code, answer = HTTP_CODES.get(failed.code, 400), {"error": failed.detail}
        text = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _asked(self, verbs: dict[str | None, Callable], body: bytes | None) -> dict:
        found = _PATH.fullmatch(self.path)
        if found is None or found["verb"] not in verbs:
            raise CallFailed(
                grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: {self.command} {self.path}"
            )
        model = self.server.models(unquote(found["model"]))
        number = None if found["version"] is None else int(found["version"])
        return verbs[found["verb"]](model, unquote(found["model"]), number, body)

    def log_message(self, *_: object) -> None:
        """Says nothing: the tests' output is theirs."""


def _status(model: VersionedModel, name: str, number: int | None, body: None) -> dict:
    return _proto(model.status(number))


def _metadata(model: VersionedModel, name: str, number: int | None, body: None) -> dict:
    version = model.version(number)
    spec = {"name": name, "signature_name": "", "version": str(version.number)}
    return {"model_spec": spec, "metadata": {"signature_def": _proto(version.definitions)}}


def _proto(message: Message) -> dict:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _predict(model: VersionedModel, name: str, number: int | None, body: bytes) -> dict:
    version = model.version(number)
    try:
        request = json.loads(body)
        signature = request.get("signature_name", "")
        if not isinstance(signature, str):
            raise ValueError("signature_name is no text")
        by_row = "instances" in request
        given = request["instances"] if by_row else request["inputs"]
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        detail = f"JSON Parse error: {type(error).__name__}: {error}"
        raise CallFailed(grpc.StatusCode.INVALID_ARGUMENT, detail) from None
    inputs = _inputs(version, signature, given, by_row)
    outputs = {key: value.numpy().tolist() for key, value in version.run(signature, inputs).items()}
    if not by_row:
        return {"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs}
    if len(outputs) == 1:
        return {"predictions": next(iter(outputs.values()))}
    rows = zip(*outputs.values(), strict=True)
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}


def _inputs(version: LoadedVersion, signature: str, given: Any, by_row: bool) -> dict[str, np.ndarray]:
    """Arrays by name; an only input may come without its name."""
    infos = version.definition(signature).inputs
    dtypes = {key: tf.dtypes.as_dtype(info.dtype).as_numpy_dtype for key, info in infos.items()}
    try:
        first = given[0] if by_row else given
        if not isinstance(first, dict) or "b64" in first:
            given = {next(iter(dtypes)): given}
        elif by_row:
            given = {key: [row[key] for row in given] for key in first}
        return {key: np.asarray(_decoded(value), dtypes.get(key)) for key, value in given.items()}
    except (TypeError, ValueError, KeyError, IndexError, RecursionError) as error:
        detail = f"JSON Value does not fit signature: {type(error).__name__}: {error}"
        raise CallFailed(grpc.StatusCode.INVALID_ARGUMENT, detail) from None


def _decoded(value: Any) -> Any:
    """Nested lists with what is base64 turned into bytes."""
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return [_decoded(each) for each in value] if isinstance(value, list) else value
