"""The client against servers that are down, full, broken, or something else altogether."""

import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from rdi_keras.errors import InputError, ServerError
from rdi_keras.serving import client as client_module
from rdi_keras.serving.client import Client
from rdi_keras.serving.loopback import LoopbackServer


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_a_server_that_is_down(transport, images):
    with pytest.raises(ServerError, match=r"No answer from 127.0.0.1:1 in 2 tries: .*make serve"):
        Client("127.0.0.1:1", "tiny", transport=transport, retries=1).predict(images)


def test_a_client_outlives_a_restart_of_the_server(saved_model, images):
    with LoopbackServer(saved_model.parent, "tiny") as first:
        client = Client(first.address, "tiny", retries=8)
        before = client.predict(images)
        port = int(first.address.split(":")[1])
    with LoopbackServer(saved_model.parent, "tiny", port=port):
        np.testing.assert_array_equal(client.predict(images).label, before.label)


class _Failing(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Fails with a code, and counts."""

    def __init__(self):
        self.asked = 0
        self.code = grpc.StatusCode.UNAVAILABLE

    def GetModelMetadata(self, request, context):  # noqa: N802
        self.asked += 1
        context.abort(self.code, "queue full")


@pytest.fixture
def failing():
    service, server = _Failing(), grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield service
    server.stop(0)


def test_retries_are_counted_and_only_for_what_may_pass(failing, monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.01)
    with pytest.raises(ServerError, match="in 4 tries: queue full"):
        Client(failing.address, "tiny").signatures()
    assert failing.asked == 4
    with pytest.raises(ServerError, match="in 1 tries"):
        Client(failing.address, "tiny", retries=0).signatures()
    assert failing.asked == 5
    failing.code = grpc.StatusCode.INTERNAL
    with pytest.raises(ServerError, match="failed: INTERNAL: queue full. Look into its log"):
        Client(failing.address, "tiny").signatures()
    assert failing.asked == 6


def test_retries_end_with_the_time_allowed(failing):
    started = time.monotonic()
    with pytest.raises(ServerError, match=r"in \d+ tries"):
        Client(failing.address, "tiny", timeout=0.5, retries=1000).signatures()
    assert time.monotonic() - started < 3
    assert 1 < failing.asked < 10


class _Odd(BaseHTTPRequestHandler):
    """Whatever listens on a port, it need not be TensorFlow Serving."""

    replies = {"/v1/models/full": (503, b'{"error": "queue full"}'), "/v1/models/page": (200, b"<html>")}  # noqa: RUF012
    asked = 0

    def do_GET(self):
        type(self).asked += 1
        code, text = self.replies[self.path]
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def test_rest_retries_a_full_queue_and_says_what_no_json_is(monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.01)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    with pytest.raises(ServerError, match="in 3 tries: queue full"):
        Client(address, "full", transport="rest", retries=2).state()
    assert _Odd.asked == 3
    with pytest.raises(ServerError, match="HTTP 200 without JSON.*<html>"):
        Client(address, "page", transport="rest").state()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"address": "http://localhost:8501"}, "host:port.*Received: 'http"),
        ({"address": "localhost"}, "host:port"),
        ({"transport": "pigeon"}, "Unknown transport 'pigeon'. Allowed: grpc, rest"),
        ({"timeout": 0}, "timeout=0"),
        ({"retries": -1}, "retries=-1"),
    ],
)
def test_bad_arguments_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        Client(**{"address": "localhost:8500", "model": "tiny", **arguments})
