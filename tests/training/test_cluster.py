"""Two devices of one process, and two processes on loopback."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from rdi_keras.cli.options import parse_config
from rdi_keras.data import Split
from rdi_keras.data.pipeline import TrainingBatches
from rdi_keras.errors import InputError
from rdi_keras.training import join_cluster
from rdi_keras.training.cluster import _task
from tests.training.together import EPOCHS, STEPS

ROOT = Path(__file__).parents[2]

SCRIPT = [sys.executable, "-m", "tests.training.together"]


def start(kind: str, folder, index=0, workers=None, *more: str) -> subprocess.Popen:
    environment = dict(os.environ)
    if workers:
        task = {"type": "worker", "index": index}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
    return subprocess.Popen(
        [*SCRIPT, kind, str(folder), str(index), *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def addresses(count: int) -> list[str]:
    """Free ports on loopback."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return found


def result(folder, index: int = 0) -> dict[str, np.ndarray]:
    with np.load(folder / f"weights-{index}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    output, _ = (process := start("none", folder)).communicate(timeout=200)
    assert process.returncode == 0, output
    return result(folder)


def assert_same(found, expected) -> None:
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def test_two_devices_learn_what_one_learns(alone, tmp_path):
    output, _ = (process := start("mirrored", tmp_path)).communicate(timeout=200)
    assert process.returncode == 0, output
    assert_same(result(tmp_path), alone)


def test_two_processes_learn_what_one_learns_though_one_is_killed_on_the_way(alone, tmp_path):
    """The other one stops, clearly; both resume, and end alike."""
    workers = addresses(2)
    first = start("multi_worker", tmp_path, 0, workers)
    second = start("multi_worker", tmp_path, 1, workers, "die")
    output, _ = first.communicate(timeout=300)
    assert second.wait(timeout=60) == -9
    assert first.returncode == 1, output
    assert "A process of this training is gone" in output
    assert "--resume" in output

    workers = addresses(2)
    processes = [start("multi_worker", tmp_path, index, workers) for index in range(2)]
    outputs = [each.communicate(timeout=300)[0] for each in processes]
    assert [each.returncode for each in processes] == [0, 0], outputs
    assert all(0 < each.split().count("step") < EPOCHS * STEPS for each in outputs), outputs
    first, second = (result(tmp_path, index) for index in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)
    assert_same(first, alone)


@pytest.mark.parametrize(
    "value",
    ["", "{", '{"cluster": {}}', '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}'],
)
def test_a_wrong_tf_config_is_refused(value, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(InputError, match="takes TF_CONFIG, such as"):
        join_cluster("multi_worker")


def test_the_kubernetes_example_sets_a_tf_config_that_is_one(monkeypatch):
    documents = list(yaml.safe_load_all((ROOT / "training" / "kubernetes.yaml").read_text()))
    job = documents[1]["spec"]
    container = job["template"]["spec"]["containers"][0]
    workers = next(each["value"] for each in container["env"] if each["name"] == "WORKERS")
    assert len(workers.split()) == job["completions"] == job["parallelism"]
    line = container["args"][0].replace("exec python -m rdi_keras.cli.fit", "echo $TF_CONFIG; echo")
    environment = {**os.environ, "WORKERS": workers, "JOB_COMPLETION_INDEX": "1"}
    command = [*container["command"], line]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    text, arguments = said.splitlines()
    monkeypatch.setenv("TF_CONFIG", text)
    assert _task() == (1, workers.split())
    config, switches = parse_config("", arguments.split(), {"resume": ""})
    assert (config.strategy, config.preset, switches) == ("multi_worker", "mnist", {"resume": True})


def test_where_nothing_is_left_to_train_nobody_is_waited_for(monkeypatch):
    task = {"type": "worker", "index": 1}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": addresses(2)}, "task": task}))
    cluster = join_cluster("multi_worker", trained=True)
    assert (cluster.is_chief, cluster.num_replicas) == (False, 1)
    cluster.wait_for_all()


def test_an_unknown_strategy_is_refused():
    with pytest.raises(InputError, match="Unknown strategy 'all'. Allowed: none, mirrored, multi_worker"):
        join_cluster("all")


def test_parts_and_pieces_make_up_the_batch():
    split = Split(np.zeros((12, 2, 2, 1), np.float32), np.arange(12))
    batches = TrainingBatches(split, 4, seed=0, replays=2)
    whole = [labels for _, labels in batches.epoch(1, 1).as_numpy_iterator()]
    halves = [list(batches.epoch(1, 1, (k, 2)).as_numpy_iterator()) for k in range(2)]
    pieces = [labels for _, labels in batches.epoch(1, 1, pieces=2).as_numpy_iterator()]
    for step, labels in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([half[step][1] for half in halves]), labels)
        np.testing.assert_array_equal(np.concatenate(pieces[2 * step : 2 * step + 2]), labels)
    with pytest.raises(InputError, match="A batch of 4 images cannot be shared equally by 3 devices"):
        batches.check_divisible(3)
