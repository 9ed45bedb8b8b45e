"""The loopback server by itself: versions roll over without losing a request."""

import shutil
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from rdi_keras.cli.loopback import main
from rdi_keras.errors import InputError
from rdi_keras.serving import export_saved_model
from rdi_keras.serving.client import Client, VersionState
from rdi_keras.serving.loopback import LoopbackServer
from rdi_keras.serving.versions import VersionedModel
from rdi_keras.serving.warmup import WARMUP_FILE

TIME_ENOUGH = 60


def wait_until(condition):
    ends = time.monotonic() + TIME_ENOUGH
    while not condition():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def folder(saved_model, tmp_path):
    """A folder of versions with one in it."""
    shutil.copytree(saved_model, tmp_path / "tiny" / "1")
    return tmp_path / "tiny"


def add_version(saved_model, folder, number):
    """As an export does it: written aside, then renamed."""
    shutil.copytree(saved_model, folder / "writing-it")
    (folder / "writing-it").rename(folder / str(number))


def test_versions_roll_over_under_traffic_and_no_request_is_lost(model, metadata, images, folder):
    """Three threads ask without a pause, without retries, while a new version is exported."""
    answers, failures, done = [[], [], []], [], threading.Event()

    def hammer(client, seen):
        while not done.is_set():
            try:
                served = client.predict(images[:4])
                seen.append((int(served.version[0]), served.label.tolist()))
            except Exception as error:
                failures.append(error)
                return

    with LoopbackServer(folder, poll=0.05) as server:
        client = Client(server.address, "tiny", retries=0, timeout=TIME_ENOUGH)
        expected = client.predict(images[:4]).label.tolist()
        threads = [threading.Thread(target=hammer, args=(client, seen)) for seen in answers]
        for each in threads:
            each.start()
        wait_until(lambda: all(answers) or failures)
        export_saved_model(model, metadata, folder)
        wait_until(lambda: all(seen[-1][0] == 2 for seen in answers) or failures)
        done.set()
        for each in threads:
            each.join()
        assert failures == []
        assert client.state() == [VersionState(2, "AVAILABLE", ""), VersionState(1, "END", "")]
    for seen in answers:
        versions = [version for version, _ in seen]
        assert versions == sorted(versions), "an old version answered after the new one"
        assert set(versions) == {1, 2}
        assert all(labels == expected for _, labels in seen)


def test_a_request_under_way_finishes_on_the_version_it_began_with(saved_model, images, folder):
    versions = VersionedModel(folder)
    held = versions.version()
    add_version(saved_model, folder, 2)
    versions.refresh()
    assert versions.version().number == 2
    assert len(held.run("serving_default", {"images": images[:3]})["label"]) == 3


def test_old_versions_can_be_kept_for_who_names_them(saved_model, images, folder):
    with LoopbackServer(folder, keep=2, poll=0.05) as server:
        add_version(saved_model, folder, 2)
        newest, old = Client(server.address, "tiny"), Client(server.address, "tiny", version=1)
        wait_until(lambda: newest.predict(images[:1]).version[0] == 2)
        assert old.predict(images[:1]).version[0] == 1
        add_version(saved_model, folder, 3)
        wait_until(lambda: newest.predict(images[:1]).version[0] == 3)
        wait_until(lambda: newest.state()[-1].state == "END")
        with pytest.raises(InputError, match=r"3 \(AVAILABLE\), 2 \(AVAILABLE\), 1 \(END\)"):
            old.predict(images[:1])


def test_versions_are_numbers_and_not_names(saved_model, folder):
    add_version(saved_model, folder, 10)
    add_version(saved_model, folder, 9)
    shutil.copytree(saved_model, folder / "writing-more")
    assert VersionedModel(folder).version().number == 10


def test_a_damaged_version_changes_nothing_and_says_why(saved_model, images, folder):
    versions = VersionedModel(folder)
    add_version(saved_model, folder, 2)
    (folder / "2" / "saved_model.pb").write_bytes(b"nonsense")
    for _ in range(2):
        versions.refresh()
        assert versions.version().number == 1
    newest = versions.status().model_version_status[0]
    assert (newest.version, newest.state) == (2, newest.END)
    assert newest.status.error_message
    shutil.rmtree(folder / "2")
    versions.refresh()
    add_version(saved_model, folder, 2)
    versions.refresh()
    assert versions.version().number == 2


def test_a_version_taken_away_rolls_back(saved_model, folder):
    add_version(saved_model, folder, 2)
    versions = VersionedModel(folder)
    shutil.rmtree(folder / "2")
    versions.refresh()
    assert versions.version().number == 1
    shutil.rmtree(folder / "1")
    versions.refresh()
    assert versions.version().number == 1, "better an old version than none"


def test_warm_up_requests_are_replayed_and_a_bad_one_fails_the_load(saved_model, folder):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "steam"
    add_version(saved_model, folder, 2)
    with tf.io.TFRecordWriter(str(folder / "2" / WARMUP_FILE)) as writer:
        writer.write(log.SerializeToString())
    versions = VersionedModel(folder)
    assert versions.version().number == 1
    assert '"steam" not found' in versions.status(2).model_version_status[0].status.error_message


def test_nothing_to_serve_is_an_error(tmp_path, folder):
    for empty in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="No version to serve.*saved_models/digits"):
            LoopbackServer(empty)
    (folder / "1" / "saved_model.pb").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="No version to serve.*Error"):
        LoopbackServer(folder)
    with pytest.raises(InputError, match="keep must be at least 1"):
        LoopbackServer(folder, keep=0)


def test_a_port_that_is_taken_is_an_error(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for given in ({"port": port}, {"rest_port": port}):
            with pytest.raises(InputError, match=f"Cannot listen on .*{port}"):
                LoopbackServer(folder, **given)


def test_it_listens_on_loopback_only(folder):
    with LoopbackServer(folder) as server:
        assert server.address.startswith("127.0.0.1:")
        assert server.rest_address.startswith("127.0.0.1:")


def test_the_command_serves_until_it_is_ended(folder, images):
    command = [
        sys.executable,
        "-m",
        "rdi_keras.cli.loopback",
        str(folder),
        "--port",
        "0",
        "--rest_port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline().split()
            assert said[:2] == ["tiny:", "gRPC"]
            labels = Client(said[2].rstrip(","), "tiny").predict(images).label
            rest = Client(said[4], "tiny", transport="rest").predict(images).label
            np.testing.assert_array_equal(labels, rest)
        finally:
            process.terminate()


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: No version to serve")
