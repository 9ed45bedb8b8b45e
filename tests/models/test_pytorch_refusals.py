"""Files that hold something else than the weights of a network: refused by name, and nothing is run."""

import os
import pathlib
import pickle

import numpy as np
import pytest

from rdi_keras.errors import InputError
from rdi_keras.models.pytorch import load_weights, read_checkpoint
from tests.models import torch_networks
from tests.models.networks import built
from tests.models.torch_networks import save, torch


def assert_weights(model, expected):
    for weight, value in zip(model.weights, expected, strict=True):
        np.testing.assert_array_equal(weight, value, err_msg=weight.path)


@pytest.fixture(scope="module")
def network():
    return torch_networks.make("resnet20")


@pytest.fixture
def model():
    """Whatever is refused must leave its weights as they are."""
    model = built("resnet20")
    before = model.get_weights()
    yield model
    assert_weights(model, before)


@pytest.fixture
def state(network, tmp_path):
    return read_checkpoint(save(tmp_path / "state.pth", network.state_dict()))


def test_the_first_missing_tensor_is_named(model, state):
    for name in ("fc.bias", "branch_layer2.6.running_mean", "group1_layer0.downsample.1.running_var"):
        del state[name]
    with pytest.raises(
        InputError,
        match=r"does not fit a resnet20 with 7 exits and 10 classes: it lacks the tensor "
        r"'group1_layer0\.downsample\.1\.running_var'\. Give the --arch",
    ):
        load_weights(model, "resnet20", state)


def test_a_deeper_networks_first_left_over_tensor_is_named(model, tmp_path):
    deeper = torch_networks.ResNet(32).state_dict()
    state = read_checkpoint(save(tmp_path / "state.pth", deeper))
    with pytest.raises(
        InputError,
        match=r"a resnet20 with .*: its tensor 'group0_layer3\.conv1\.weight' has no place there\. "
        r"Give the --arch .* one of resnet20, resnet32,.* mobilenet_v2",
    ):
        load_weights(model, "resnet20", state)


def test_a_shallower_networks_first_missing_tensor_is_named(state):
    model = built("resnet32")
    before = model.get_weights()
    with pytest.raises(InputError, match=r"a resnet32 .* lacks the tensor 'group0_layer3\.conv1\.weight'"):
        load_weights(model, "resnet32", state)
    assert_weights(model, before)


def test_another_architectures_weights_are_refused(model, tmp_path):
    other = torch_networks.MobileNetV2().state_dict()
    state = read_checkpoint(save(tmp_path / "state.pth", other))
    with pytest.raises(InputError, match=r"a resnet20 .* lacks the tensor 'conv1\.weight'"):
        load_weights(model, "resnet20", state)


def test_another_number_of_classes_is_refused(model, tmp_path):
    wider = torch_networks.ResNet(20, num_classes=100).state_dict()
    state = read_checkpoint(save(tmp_path / "state.pth", wider))
    with pytest.raises(
        InputError,
        match=r"7 exits and 10 classes: the tensor 'branch_layer1\.9\.weight' has shape "
        r"\(100, \d+\), expected is \(10, \d+\)",
    ):
        load_weights(model, "resnet20", state)


@pytest.mark.parametrize(
    ("name", "axes"),
    [("group1_layer0.conv1.weight", (1, 0, 2, 3)), ("branch_layer1.1.weight", (2, 3, 1, 0))],
)
def test_another_order_of_axes_is_refused(model, state, name, axes):
    state[name] = state[name].transpose(axes)
    with pytest.raises(InputError, match=rf"tensor '{name}' has shape .*, expected is"):
        load_weights(model, "resnet20", state)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["conv1.weight", "group2_layer2.bn2.running_mean", "fc.bias"])
def test_a_tensor_that_is_not_finite_is_named(model, state, name, value):
    state[name] = state[name].copy()
    state[name].flat[-1] = value
    with pytest.raises(InputError, match=rf"damaged: the tensor '{name}' holds values that are not finite"):
        load_weights(model, "resnet20", state)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("fc.bias", lambda tensor: tensor.double() * 1e300),
        ("group1_layer0.bn1.running_var", lambda tensor: -tensor),
    ],
    ids=["infinite in float32", "a variance below 0"],
)
def test_values_that_would_make_logits_not_finite_are_refused(network, model, tmp_path, name, change):
    state = {**network.state_dict(), name: change(network.state_dict()[name])}
    with pytest.raises(InputError, match=name):
        load_weights(model, "resnet20", read_checkpoint(save(tmp_path / "state.pth", state)))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor.int(),
        lambda tensor: tensor > 0,
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: tensor.to_sparse(),
        lambda tensor: tensor.to("meta"),
    ],
    ids=["integers", "booleans", "complex", "sparse", "no data"],
)
def test_weights_that_are_no_plain_floats_are_refused(network, model, tmp_path, change):
    state = {**network.state_dict(), "fc.weight": change(network.state_dict()["fc.weight"])}
    with pytest.raises(InputError, match=r"fc\.weight"):
        load_weights(model, "resnet20", read_checkpoint(save(tmp_path / "state.pth", state)))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(network, tmp_path, share, zipped):
    path = save(tmp_path / "state.pth", network.state_dict(), _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"state\.pth' is no PyTorch checkpoint .* or is damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"hello\n", bytes(range(256)), b"PK\x03\x04"], ids=repr)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "state.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"state\.pth' is no PyTorch checkpoint") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_no_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"Cannot read the checkpoint '.*missing\.pth': No such file"):
        read_checkpoint(tmp_path / "missing.pth")
    with pytest.raises(InputError, match="Cannot read the checkpoint '.*': Is a directory"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(3)],
        torch.zeros(3),
        None,
        {},
        {"state_dict": {}},
        {"state_dict": [torch.zeros(3)]},
        {"conv1.weight": torch.zeros(3), "lr": 0.1},
        {"state_dict": {"conv1.weight": [0.0, 1.0]}},
    ],
    ids=["list", "tensor", "None", "empty", "empty inside", "list inside", "number", "list for a tensor"],
)
def test_what_is_no_state_dictionary_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "state.pth")
    with pytest.raises(InputError, match=r"state\.pth' holds no state dictionary: names mapped to tensors"):
        read_checkpoint(tmp_path / "state.pth")


class Hostile:
    """Unpickled, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("form", ["zip", "old format", "bare pickle"])
@pytest.mark.parametrize("call", ["touch", "system"])
@pytest.mark.parametrize("place", ["state_dict", "arch"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(network, tmp_path, form, call, place):
    trace, path = tmp_path / "trace", tmp_path / "state.pth"
    hostile = {
        "touch": Hostile(pathlib.Path.touch, pathlib.Path(trace)),
        "system": Hostile(os.system, f"touch {trace}"),
    }[call]
    content = {"state_dict": network.state_dict(), place: hostile}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps({place: hostile}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(InputError, match="no PyTorch checkpoint of tensors alone.* It was not run"):
        read_checkpoint(path)
    assert not trace.exists()

    if form == "bare pickle":  # The trap works.
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trace.exists()
