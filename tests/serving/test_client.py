"""The client against the loopback server, over real sockets, gRPC and REST alike."""

import dataclasses
import io
import json
import threading
import time

import grpc
import numpy as np
import pytest
from PIL import Image

import rdi_keras as rdi
from rdi_keras.errors import InputError, ServerError
from rdi_keras.inference import BudgetTable
from rdi_keras.metadata import describe
from rdi_keras.serving import client_inputs, export_saved_model
from rdi_keras.serving.client import Client, VersionState
from rdi_keras.serving.loopback import LoopbackServer
from rdi_keras.serving.predictor import Prediction
from rdi_keras.serving.transports import CallFailed

FIELDS = [each.name for each in dataclasses.fields(Prediction)]


@pytest.fixture(scope="module")
def server(saved_model):
    with LoopbackServer(saved_model.parent, "tiny") as server:
        yield server


@pytest.fixture(scope="module")
def predictor(saved_model):
    return rdi.Predictor(saved_model, engine="tensorflow")


@pytest.fixture(params=["grpc", "rest"])
def connect(request, server):
    """Makes a client of the loopback server."""
    clients = []

    def connected(model="tiny", **options):
        address = {"grpc": server.address, "rest": server.rest_address}[request.param]
        clients.append(Client(address, model, transport=request.param, **options))
        return clients[-1]

    yield connected
    for each in clients:
        each.close()


def same(served, expected):
    for field in FIELDS:
        value, other = getattr(served, field), getattr(expected, field)
        assert isinstance(value, np.ndarray)
        assert value.dtype == other.dtype, field
        assert value.shape == other.shape, field
        np.testing.assert_allclose(value, other, rtol=1e-6, atol=1e-6)


def test_answers_are_the_predictors(connect, predictor, images):
    served = connect().predict(images)
    same(served, predictor.predict(images))
    assert len(set(served.exit)) == 3
    assert served.version.shape == (64,)


def test_many_requests_make_one_answer(connect, predictor, images):
    same(connect().predict(images, batch_size=25), predictor.predict(images))
    exits = connect().exits(images, batch_size=25)
    assert exits["exit_3"].shape == (64, 10)


def test_no_images_no_answers(connect, images):
    served = connect().predict(images[:0])
    assert served.label.dtype == np.int64
    assert served.exit.shape == served.version.shape == (0,)


def test_thresholds_for_all_and_per_sample(connect, predictor, images):
    client = connect()
    same(client.predict(images, [0.0, 9.0]), predictor.predict(images, [0.0, 9.0]))
    limits = np.repeat([[9.0, 9.0], [0.0, 9.0], [0.0, np.inf], [0.0, 0.0]], 16, axis=0)
    np.testing.assert_array_equal(client.predict(images, limits).exit, np.repeat([1, 2, 2, 3], 16))


def test_exits_are_the_logits_by_name(connect, predictor, images):
    exits = connect().exits(images[:5])
    assert list(exits) == ["exit_1", "exit_2", "exit_3"]
    for name, expected in predictor.exits(images[:5]).items():
        assert exits[name].dtype == np.float32
        np.testing.assert_allclose(exits[name], expected, rtol=1e-6, atol=1e-6)


def test_files_are_decoded_by_the_model(connect, predictor, images):
    pixels = (images[:3, ..., 0] * 255).astype(np.uint8)
    files = []
    for each in pixels:
        buffer = io.BytesIO()
        Image.fromarray(each).save(buffer, "PNG")
        files.append(buffer.getvalue())
    same(connect().predict_files(files), predictor.predict(pixels[..., None] / np.float32(255)))


def test_the_state_and_the_version_that_answered(connect, images, server):
    client = connect(version=1)
    assert client.state() == [VersionState(1, "AVAILABLE", "")]
    assert set(client.predict(images).version) == {1}
    assert "serving_default" in client.signatures()


def test_grpc_says_which_version_answered_and_rest_does_not(server, images):
    assert set(Client(server.address, "tiny").predict(images).version) == {1}
    rest = Client(server.rest_address, "tiny", transport="rest")
    assert set(rest.predict(images).version) == {0}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.float32(0), r"shape \(B, 8, 8, 1\). Received: \(\)"),
        (np.zeros((8, 8, 1), np.float32), r"Received: \(8, 8, 1\)"),
        (np.zeros((1, 28, 28, 1), np.float32), r"Received: \(1, 28, 28, 1\)"),
        (np.zeros((1, 8, 8, 1), np.uint8), "dtype: uint8"),
        (np.full((1, 8, 8, 1), 1.5, np.float32), "to 1.5"),
        (np.full((1, 8, 8, 1), np.nan, np.float32), "NaN"),
    ],
)
def test_bad_images_never_leave_the_client(connect, bad, said):
    client = connect()
    for ask in (client.predict, client.exits):
        with pytest.raises(InputError, match=said):
            ask(bad)


def test_images_of_several_sizes_are_refused(connect):
    ragged = [np.zeros((8, 8, 1), np.float32), np.zeros((9, 9, 1), np.float32)]
    for limits in ({}, {"thresholds": [0.1, 0.1]}, {"budget": 0.5}):
        with pytest.raises(InputError, match="of one size. Received: images of several sizes"):
            connect().predict(ragged, **limits)


def test_bad_limits_files_and_batches_are_refused(connect, images):
    client = connect()
    with pytest.raises(InputError, match="takes 2 thresholds"):
        client.predict(images, [1.0])
    with pytest.raises(InputError, match=r"shape \(64, 2\)"):
        client.predict(images, np.zeros((3, 2)))
    with pytest.raises(InputError, match="not both"):
        client.predict(images, [1.0, 1.0], budget=0.5)
    with pytest.raises(InputError, match="one per image. Received: shape \\(2,\\)"):
        client.predict(images, budget=[0.5, 0.5])
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        client.predict(images, batch_size=0)
    for wrong in (["photo.png"], "photo.png", [b""]):
        with pytest.raises(InputError, match="read_bytes"):
            client.predict_files(wrong)


def test_a_bad_file_in_a_batch_is_named(connect, monkeypatch):
    good = io.BytesIO()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(good, "PNG")
    client = connect()
    for bad in (b"no image", good.getvalue()[:50]):
        with pytest.raises(InputError, match="File 2 of 4 is damaged or of another kind"):
            client.predict_files([good.getvalue(), good.getvalue(), bad, good.getvalue()])
    monkeypatch.setattr(client_inputs, "MAX_PIXELS", 80)
    with pytest.raises(InputError, match="at most 80 pixels. File 0 of 1 is 9×9 pixels large"):
        client.predict_files([good.getvalue()])


def test_what_only_the_server_can_refuse_is_an_input_error(connect, monkeypatch):
    monkeypatch.setattr(client_inputs, "_unreadable", lambda file: None)
    with pytest.raises(InputError, match=r"'tiny' at 127.0.0.1:\d+ refused the request: .*"):
        connect().predict_files([b"no image"])


def test_a_newer_version_with_fewer_exits_is_taken_as_it_is(model, metadata, images, tmp_path):
    export_saved_model(model, metadata, tmp_path / "tiny")
    with LoopbackServer(tmp_path / "tiny") as server, Client(server.address, "tiny") as client:
        assert len(client.exits(images[:2])) == 3
        smaller = model.keep_exits([1, 3])
        facts = describe(smaller, metadata.class_names, "digits", "8/255", "digits")
        export_saved_model(smaller, facts, tmp_path / "tiny")
        deadline = time.monotonic() + 20
        while client.predict(images[:1]).version[0] != 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        found = client.exits(images[:2])
    assert list(found) == ["exit_1", "exit_2"]
    for logits, expected in zip(found.values(), smaller.logits(images[:2]), strict=True):
        np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_unknown_signatures_and_inputs_are_refused(connect, images):
    client = connect()
    with pytest.raises(InputError, match="no signature 'steam'. It has: adaptive, all_exits"):
        client.ask("steam", {"images": images})
    with pytest.raises(InputError, match="takes images. Received: pictures"):
        client.ask("all_exits", {"pictures": images})
    with pytest.raises(InputError, match=r"must have shape \(None, 2\)"):
        client.ask("adaptive", {"images": images, "thresholds": np.zeros((64, 5))})
    with pytest.raises(InputError, match="one row per image"):
        client.ask("adaptive", {"images": images, "thresholds": np.zeros((3, 2))})
    with pytest.raises(InputError, match="'thresholds' must be float32"):
        client.ask("adaptive", {"images": images, "thresholds": "high"})


def test_unknown_models_and_versions_are_refused(connect, images):
    with pytest.raises(InputError, match="Model 'missing' at .* is not there.*Check the model's name"):
        connect("missing").predict(images)
    with pytest.raises(InputError, match=r"version 9, at .*Versions there: 1 \(AVAILABLE\)"):
        connect(version=9).predict(images)
    with pytest.raises(InputError, match="is not there"):
        connect(version=9).state()


def test_the_server_refuses_what_the_client_would_not_send(server, images):
    """The same words as those of a foreign client's bad request."""
    client = Client(server.address, "tiny")
    signature = client.signatures()["serving_default"]
    for inputs in ({"images": np.zeros((1, 28, 28, 1), np.float32)}, {"pictures": images}):
        with pytest.raises(CallFailed) as failed:
            client._transport.predict("serving_default", signature, inputs, 5)
        assert failed.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(CallFailed) as failed:
        client._transport.predict("steam", signature, {"images": images}, 5)
    assert failed.value.code is grpc.StatusCode.FAILED_PRECONDITION


def test_a_slow_server_meets_the_deadline(connect, images, server, monkeypatch):
    client = connect(timeout=0.3)
    client.signatures()
    hurry, version = threading.Event(), server.versions.version

    def slowly(number):
        hurry.wait(5)
        return version(number)

    monkeypatch.setattr(server.versions, "version", slowly)
    started = time.monotonic()
    with pytest.raises(ServerError, match="within 0.3 s. Send fewer images at a time"):
        client.predict(images)
    assert time.monotonic() - started < 3
    hurry.set()


@pytest.fixture(scope="module")
def budgeted(model, metadata, tmp_path_factory):
    """A server whose version 1 has no table of budgets, and version 2 has one."""
    folder = tmp_path_factory.mktemp("budgeted") / "tiny"
    table = BudgetTable(budgets=[0.5, 1.0], thresholds=[[9.0, 9.0], [0.0, 0.0]])
    for each in (None, table):
        export_saved_model(model, dataclasses.replace(metadata, budget_table=each), folder)
    with LoopbackServer(folder, keep=2) as server:
        yield server


def test_a_budget_says_where_samples_leave(budgeted, images):
    predictor = rdi.Predictor(budgeted.versions.folder, engine="tensorflow")
    for transport in ("grpc", "rest"):
        address = budgeted.address if transport == "grpc" else budgeted.rest_address
        client = Client(address, "tiny", transport=transport)
        for budget in (0.5, np.repeat([0.5, 1.0], 32)):
            same(client.predict(images, budget=budget), predictor.predict(images, budget=budget))
        np.testing.assert_array_equal(client.predict(images[:2], budget=[0.5, 1.0]).exit, [1, 3])


def test_a_version_without_budgets_says_so(budgeted, images):
    client = Client(budgeted.address, "tiny", version=1)
    with pytest.raises(InputError, match="version 1, at .* has no signature 'budget'.*export"):
        client.predict(images, budget=0.6)


def test_what_a_newer_version_takes_is_learnt_before_anything_is_refused(budgeted, images):
    client = Client(budgeted.address, "tiny")
    old = Client(budgeted.address, "tiny", version=1)
    client._signatures = old.signatures()
    assert client.predict(images, budget=0.5).exit.max() == 1


def test_rest_takes_rows_too(server, images):
    """The loopback server's other format, in which most examples on the web are written."""
    import http.client

    def post(body):
        connection = http.client.HTTPConnection(server.rest_address)
        connection.request("POST", "/v1/models/tiny:predict", json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    code, answer = post({"instances": images[:2].tolist()})
    assert code == 200
    assert len(answer["predictions"]) == 2
    assert set(answer["predictions"][0]) == set(FIELDS)
    rows = [{"images": each.tolist(), "thresholds": [9.0, 9.0]} for each in images[:2]]
    code, answer = post({"signature_name": "adaptive", "instances": rows})
    assert [each["exit"] for each in answer["predictions"]] == [1, 1]
    for bad in ({"inputs": "text"}, {"inputs": {"pictures": [1]}}, {"instances": []}, {}, []):
        assert post(bad)[0] == 400
