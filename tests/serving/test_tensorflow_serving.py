"""The real TensorFlow Serving answers as the `Predictor`; skipped where there is none.

The same requests are answered by the loopback server in test_client.py, everywhere.
"""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import rdi_keras as rdi
from rdi_keras.errors import InputError
from rdi_keras.serving import export_saved_model
from rdi_keras.serving.client import Client

SERVING = Path(__file__).parents[2] / "serving"
PROGRAM = shutil.which("tensorflow_model_server")
IMAGE = "tensorflow/serving"
CLIENT = {"timeout": 60, "retries": 30}


def docker_image() -> str | None:
    """A TensorFlow Serving image that lies here; none is downloaded by a test."""
    if shutil.which("docker") is None:
        return None
    listed = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", IMAGE], capture_output=True, text=True
    )
    return listed.stdout.split()[0] if listed.returncode == 0 and listed.stdout.split() else None


DOCKER_IMAGE = docker_image()
pytestmark = pytest.mark.skipif(
    PROGRAM is None and DOCKER_IMAGE is None,
    reason="no tensorflow_model_server on PATH, and no Docker with an image of tensorflow/serving",
)


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def command(folder, port, rest_port):
    batching = "--enable_batching=true", "--model_name=tiny"
    if PROGRAM is not None:
        files = f"--batching_parameters_file={SERVING / 'batching_parameters.txt'}"
        where = f"--model_base_path={folder}", f"--port={port}", f"--rest_api_port={rest_port}"
        return [PROGRAM, *where, files, *batching]
    published = [f"--publish=127.0.0.1:{port}:8500", f"--publish=127.0.0.1:{rest_port}:8501"]
    volumes = [f"--volume={folder}:/models/tiny:ro", f"--volume={SERVING}:/config:ro"]
    flags = ["--port=8500", "--rest_api_port=8501", "--model_base_path=/models/tiny", *batching]
    flags.append("--batching_parameters_file=/config/batching_parameters.txt")
    started = ["docker", "run", "--rm", "--init", "--entrypoint=tensorflow_model_server"]
    return [*started, *published, *volumes, DOCKER_IMAGE, *flags]


@pytest.fixture(scope="module")
def real(model, metadata, tmp_path_factory):
    """Addresses of a real server, and the folder that it watches."""
    folder = tmp_path_factory.mktemp("real") / "tiny"
    export_saved_model(model, metadata, folder)
    folder.chmod(0o755)
    port, rest_port = free_ports(2)
    process = subprocess.Popen(command(folder, port, rest_port))
    try:
        wait_for(f"127.0.0.1:{port}", lambda client: client.signatures(), process)
        yield {"grpc": f"127.0.0.1:{port}", "rest": f"127.0.0.1:{rest_port}", "folder": folder}
    finally:
        process.terminate()
        process.wait(30)


def wait_for(address, ask, process=None):
    ends = time.monotonic() + 120
    while True:
        assert process is None or process.poll() is None, "the server ended"
        try:
            return ask(Client(address, "tiny", **CLIENT))
        except InputError:  # It listens before it has loaded anything.
            assert time.monotonic() < ends
            time.sleep(0.2)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_answers_are_the_predictors(real, images, transport):
    predictor = rdi.Predictor(real["folder"], engine="tensorflow")
    client = Client(real[transport], "tiny", transport=transport, **CLIENT)
    for served, expected in (
        (client.predict(images), predictor.predict(images)),
        (client.predict(images, [0.0, 9.0]), predictor.predict(images, [0.0, 9.0])),
    ):
        np.testing.assert_array_equal(served.exit, expected.exit)
        np.testing.assert_array_equal(served.label, expected.label)
        np.testing.assert_allclose(served.probabilities, expected.probabilities, atol=1e-5)
        np.testing.assert_allclose(served.macs, expected.macs)
    for name, logits in predictor.exits(images).items():
        np.testing.assert_allclose(client.exits(images)[name], logits, atol=1e-5)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_what_is_missing_is_an_input_error(real, images, transport):
    with pytest.raises(InputError, match="is not there"):
        Client(real[transport], "missing", transport=transport, **CLIENT).predict(images)
    with pytest.raises(InputError, match="Versions there"):
        Client(real[transport], "tiny", 99, transport=transport, **CLIENT).predict(images)
    with pytest.raises(InputError, match="refused"):
        Client(real[transport], "tiny", transport=transport, **CLIENT).predict_files([b"no image"])


def test_a_new_version_takes_over(real, model, metadata, images):
    export_saved_model(model, metadata, real["folder"])
    client = Client(real["grpc"], "tiny", **CLIENT)
    ends = time.monotonic() + 60
    while client.predict(images[:1]).version[0] != 2:
        assert time.monotonic() < ends
        time.sleep(0.05)
