"""Requests that a server must survive, and names that must not become paths."""

import http.client
import json

import numpy as np
import pytest

from rdi_keras.errors import InputError
from rdi_keras.serving import Client
from rdi_keras.serving.loopback import LoopbackServer
from rdi_keras.serving.loopback_rest import MAX_REQUEST


@pytest.fixture(scope="module")
def server(honest):
    with LoopbackServer(honest / "exported") as server:
        yield server


def ask(server, path: str, body: bytes = b"", length: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.rest_address, timeout=30)
    connection.putrequest("POST", path, skip_accept_encoding=True)
    connection.putheader("Content-Length", str(len(body)) if length is None else length)
    connection.endheaders(body)
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


@pytest.mark.parametrize("length", [str(MAX_REQUEST + 1), "9" * 30, "-1", "many", "²"])
def test_a_request_that_claims_too_much_is_refused_unread(server, length):
    path = "/v1/models/exported:predict"
    assert ask(server, path, length=length.encode("latin-1", "ignore").decode("latin-1"))[0] == 413


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}", b"\xff"])
def test_json_without_end_is_refused(server, body):
    status, text = ask(server, "/v1/models/exported:predict", body)
    assert status == 400
    assert "error" in json.loads(text)


@pytest.mark.parametrize(
    "name", ["../exported", "..%2f..%2fetc%2fpasswd", "exported/../exported", "exported\x00"]
)
@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_a_name_is_no_path(server, name, transport):
    address = server.address if transport == "grpc" else server.rest_address
    with Client(address, name, transport=transport) as client, pytest.raises(InputError):
        client.predict(np.zeros([1, 8, 8, 1], np.float32))


def test_it_answers_after_all_that(server):
    with Client(server.address, "exported") as client:
        assert client.predict(np.zeros([1, 8, 8, 1], np.float32)).label.shape == (1,)
