"""The server's configuration, read as TensorFlow Serving, Docker and Kubernetes read it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.apis import get_model_status_pb2  # noqa: F401 - registers what the config imports.
from tensorflow_serving.config import model_server_config_pb2

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "serving"
COMPOSE = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())["services"]["serving"]
KUBERNETES = {each["kind"]: each for each in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())}
POD = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]

# Fields of TensorFlow Serving's BatchingParameters and MonitoringConfig, which its Python package lacks.
FIELDS = descriptor_pb2.FieldDescriptorProto
INT64, BOOL, STRING, MESSAGE = FIELDS.TYPE_INT64, FIELDS.TYPE_BOOL, FIELDS.TYPE_STRING, FIELDS.TYPE_MESSAGE
WRAPPED = ".google.protobuf.Int64Value"
PROTOS = {
    "BatchingParameters": {
        "max_batch_size": WRAPPED,
        "batch_timeout_micros": WRAPPED,
        "max_enqueued_batches": WRAPPED,
        "num_batch_threads": WRAPPED,
        "thread_pool_name": ".google.protobuf.StringValue",
        "pad_variable_length_inputs": BOOL,
    },
    "PrometheusConfig": {"enable": BOOL, "path": STRING},
    "MonitoringConfig": {"prometheus_config": ".test.PrometheusConfig"},
}


@pytest.fixture(scope="module")
def protos():
    file = descriptor_pb2.FileDescriptorProto(name="test_serving.proto", package="test", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in PROTOS.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            added = message.field.add(name=field, number=number, label=FIELDS.LABEL_OPTIONAL)
            added.type = MESSAGE if isinstance(kind, str) else kind
            if isinstance(kind, str):
                added.type_name = kind
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.{name}")) for name in PROTOS
    }


def models():
    text = (FOLDER / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return list(config.model_config_list.config)


def test_the_models_are_there():
    assert [each.name for each in models()] == ["digits", "mnist", "fashion_mnist", "cifar10"]
    for each in models():
        assert each.model_platform == "tensorflow"
        folder = ROOT / "saved_models" / Path(each.base_path).relative_to("/models")
        assert (folder / "1" / "saved_model.pb").is_file()
        assert each.model_version_policy.latest.num_versions == 2


def test_batching_takes_what_the_client_sends(protos):
    from rdi_keras.serving.client import Client

    text = (FOLDER / "batching_parameters.txt").read_text()
    parameters = text_format.Parse(text, protos["BatchingParameters"]())
    assert parameters.max_batch_size.value == Client.predict.__defaults__[1] == 256
    assert 0 < parameters.batch_timeout_micros.value < 10_000
    assert parameters.max_enqueued_batches.value > 0
    assert parameters.num_batch_threads.value > 0


def test_prometheus_finds_the_counters(protos):
    config = text_format.Parse((FOLDER / "monitoring.config").read_text(), protos["MonitoringConfig"]())
    assert config.prometheus_config.enable
    annotations = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == config.prometheus_config.path


def test_all_ways_start_the_server_alike():
    """The flags are said three times; the local program's paths are other ones."""
    script = re.findall(r"--[a-z_]+=\S+", (FOLDER / "serve.sh").read_text())
    names = [each.split("=")[0] for each in script]
    assert COMPOSE["command"] == CONTAINER["args"]
    assert [each.split("=")[0] for each in COMPOSE["command"]] == names
    image = COMPOSE["image"]
    assert CONTAINER["image"] == re.fullmatch(r"\$\{TF_SERVING_IMAGE:-(.*)\}", image)[1]


def test_files_that_flags_name_are_mounted():
    flags = dict(each.removeprefix("--").split("=") for each in COMPOSE["command"])
    mounts = dict(each.split(":")[:2] for each in COMPOSE["volumes"])
    assert (FOLDER / "../saved_models").resolve().is_dir()
    assert mounts == {"../saved_models": "/models", ".": "/config"}
    named = {Path(value).name for value in flags.values() if value.startswith("/config/")}
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    generator = kustomization["configMapGenerator"][0]
    assert set(generator["files"]) == named
    assert all((FOLDER / name).is_file() for name in [*named, *kustomization["resources"]])
    volumes = {each["name"]: each for each in POD["volumes"]}
    assert {each["name"] for each in CONTAINER["volumeMounts"]} == set(volumes)
    assert volumes["config"]["configMap"]["name"] == generator["name"]
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claim == KUBERNETES["PersistentVolumeClaim"]["metadata"]["name"]


def test_ports_agree():
    flags = dict(each.removeprefix("--").split("=") for each in COMPOSE["command"])
    ports = {"grpc": int(flags["port"]), "rest": int(flags["rest_api_port"])}
    assert COMPOSE["ports"] == [f"127.0.0.1:{port}:{port}" for port in ports.values()]
    assert {each["name"]: each["containerPort"] for each in CONTAINER["ports"]} == ports
    assert {each["name"]: each["port"] for each in KUBERNETES["Service"]["spec"]["ports"]} == ports


def test_the_service_finds_the_pods():
    deployment = KUBERNETES["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert KUBERNETES["Service"]["spec"]["selector"] == deployment["selector"]["matchLabels"] == labels
    grace = POD["terminationGracePeriodSeconds"]
    assert grace > int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][-1])


def link_programs(folder, *names):
    for name in names:
        (folder / name).symlink_to(shutil.which(name))


def test_without_any_server_one_line_says_what_to_install(tmp_path):
    """On a PATH with neither program."""
    link_programs(tmp_path, "dirname", "sh")
    ended = subprocess.run(
        ["/bin/sh", str(FOLDER / "serve.sh")], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert re.match("error: .*Docker.*tensorflow_model_server.*Install.*rdi_keras.cli.loopback", ended.stderr)


def test_the_program_is_started_with_paths_that_exist(tmp_path):
    """A stand-in for tensorflow_model_server prints what it was given."""
    stand_in = tmp_path / "tensorflow_model_server"
    stand_in.write_text(
        '#!/bin/sh\necho "$@"\nfor each in "$@"; do cat "${each#*=}" 2>/dev/null; done\nexit 0\n'
    )
    stand_in.chmod(0o755)
    link_programs(tmp_path, "dirname", "sh", "mktemp", "sed", "cat", "rm")
    ended = subprocess.run(
        ["/bin/sh", str(FOLDER / "serve.sh")], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert f'base_path: "{ROOT}/saved_models/digits"' in ended.stdout
    for flag in ("batching_parameters_file", "monitoring_config_file"):
        assert Path(re.search(rf"--{flag}=(\S+)", ended.stdout)[1]).is_file()
    assert not Path(re.search(r"--model_config_file=(\S+)", ended.stdout)[1]).exists()
