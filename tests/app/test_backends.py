"""Deciding on a server: the same answers, and a word where it cannot be."""

import dataclasses

import numpy as np
import pytest

from app import backends, decision
from rdi_keras.errors import InputError, ServerError
from rdi_keras.serving import Predictor
from rdi_keras.serving.loopback import LoopbackServer


@pytest.fixture(scope="module")
def predictor(model_folders):
    return Predictor(model_folders[1] / "bare")


def test_a_server_decides_as_this_process_does(model_folders, predictor):
    image = np.random.default_rng(0).uniform(size=(8, 8, 1)).astype(np.float32)
    with LoopbackServer(model_folders[1] / "bare") as server:
        served = backends.Served(backends.client(server.address, "bare"), predictor.metadata)
        np.testing.assert_allclose(decision.ask(served, image), decision.ask(predictor, image), atol=1e-5)
        assert "version 1 is AVAILABLE" in backends.state_of(served)
        other = dataclasses.replace(predictor.metadata, class_names=["a", "b"])
        with pytest.raises(InputError, match="3 exits and 10 classes; the one chosen here has 3 and 2"):
            decision.ask(dataclasses.replace(served, metadata=other), image)
    with pytest.raises(ServerError, match="No answer from"):
        decision.ask(dataclasses.replace(served), image)


@pytest.mark.parametrize(
    "address", ["example.com:8500", "10.0.0.1:8500", "localhost:22", "localhost.example.com:8500"]
)
def test_other_servers_must_be_allowed_by_whoever_starts_the_app(address, monkeypatch):
    monkeypatch.delenv(backends.ADDRESSES_VARIABLE, raising=False)
    for allowed in backends.DEFAULT_ADDRESSES:
        backends.check_allowed(allowed)
    with pytest.raises(InputError, match="on its own machine"):
        backends.check_allowed(address)
    monkeypatch.setenv(backends.ADDRESSES_VARIABLE, f"other:1, {address}")
    backends.check_allowed(address)


@pytest.mark.parametrize("address", ["localhost", "localhost:", "localhost:x", "http://localhost:8500"])
def test_what_is_no_address_is_refused_in_words(address):
    with pytest.raises(InputError, match="host:port"):
        backends.client(address, "bare")
