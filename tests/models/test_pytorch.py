"""The networks in PyTorch and in Keras, with the same weights; and files that hold something else."""

import os
import pathlib
import pickle

import numpy as np
import pytest

from rdi_keras import models
from rdi_keras.data.tfds import DATA_DIR_VARIABLE
from rdi_keras.errors import InputError
from rdi_keras.models.pytorch import load_weights, read_checkpoint
from tests.models import torch_networks
from tests.models.torch_networks import torch

REFERENCE_VARIABLE = "RDI_REFERENCE_DIR"
REFERENCE = pathlib.Path(os.environ.get(REFERENCE_VARIABLE, "nowhere"), "rdi_resnet38_cifar10.pth.tar")
CIFAR = pathlib.Path(os.environ.get(DATA_DIR_VARIABLE, "nowhere"), "cifar10")
# Of the published weights, exit 1 to 7, on the test images whose pixels are exact.
EXACT = 1017
PUBLISHED_ACCURACIES = [72.27, 74.83, 80.24, 81.32, 81.71, 85.25, 84.76]


def keras_model(architecture, num_classes=10):
    return models.MultiExitModel.from_backbone(models.backbone(architecture, (32, 32, 3), num_classes))


def saved(path, state, **options):
    torch.save({"state_dict": state, "arch": "a name", "iter": 7, "best_prec1": 0.5}, path, **options)
    return path


def snapshot(model):
    return {weight.path: np.array(weight) for weight in model.weights}


def assert_same_logits(model, network, images):
    expected = torch_networks.logits(network, images)
    assert len(expected) == 7
    for number, (ours, theirs) in enumerate(zip(model.logits(images), expected, strict=True), start=1):
        scale = np.abs(theirs).max()
        assert 1 < scale < 100
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * scale, err_msg=f"exit {number}")


@pytest.fixture(scope="module")
def network():
    return torch_networks.make("resnet20")


@pytest.fixture(scope="module")
def images():
    """Of several brightnesses, so that logits differ between them."""
    random = np.random.default_rng(0)
    return (random.random((5, 1, 1, 3)) * random.random((5, 32, 32, 3))).astype(np.float32)


@pytest.fixture(scope="module")
def shared_model():
    return keras_model("resnet20")


@pytest.fixture
def model(shared_model):
    """Fresh weights, which a test must leave as they are."""
    before = snapshot(shared_model)
    yield shared_model
    after = snapshot(shared_model)
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)


@pytest.fixture
def state(network, tmp_path):
    return read_checkpoint(saved(tmp_path / "state.pth", network.state_dict()))


@pytest.mark.parametrize(
    ("architecture", "prefix"),
    [("resnet20", ""), ("resnet32", "module."), ("mobilenet_v2", "module.")],
)
def test_logits_of_all_exits_are_those_of_pytorch(architecture, prefix, images, tmp_path):
    network = torch_networks.make(architecture)
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    model = keras_model(architecture)
    before = snapshot(model)
    load_weights(model, architecture, read_checkpoint(saved(tmp_path / "file.pth.tar", state)))

    assert_same_logits(model, network, images)
    for path, value in snapshot(model).items():
        if path == f"{architecture}/thresholds":
            np.testing.assert_array_equal(value, before[path])
        else:
            assert np.mean(value == before[path]) < 0.01, path


@pytest.mark.skipif(not REFERENCE.is_file(), reason=f"{REFERENCE_VARIABLE} holds no {REFERENCE.name}")
@pytest.mark.skipif(not CIFAR.is_dir(), reason=f"{DATA_DIR_VARIABLE} holds no cifar10")
class TestPublishedWeights:
    @pytest.fixture(scope="class")
    def published(self):
        model = keras_model("resnet38")
        load_weights(model, "resnet38", read_checkpoint(REFERENCE))
        return model

    @pytest.fixture(scope="class")
    def test_part(self):
        import tensorflow_datasets as tfds

        builder = tfds.builder("cifar10", data_dir=str(CIFAR.parent), try_gcs=False)
        part = builder.as_dataset(split=f"test[:{EXACT}]", batch_size=-1, as_supervised=True)
        pixels, labels = tfds.as_numpy(part)
        return pixels.astype(np.float32) / 255, labels

    def test_logits_are_those_of_pytorch(self, published, test_part):
        network = torch_networks.ResNet(38).eval()
        content = torch.load(REFERENCE, map_location="cpu", weights_only=True)
        state = {name.removeprefix("module."): value for name, value in content["state_dict"].items()}
        network.load_state_dict(state, strict=True)
        assert_same_logits(published, network, test_part[0][:100])

    def test_accuracies_of_the_exits(self, published, test_part):
        pixels, labels = test_part
        answers = published.predict(pixels, batch_size=200, verbose=0)
        found = [100 * np.mean(np.argmax(each, axis=-1) == labels) for each in answers.values()]
        assert found == pytest.approx(PUBLISHED_ACCURACIES, abs=0.1)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False], ids=["in state_dict", "bare"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_all_forms_of_a_state_dictionary_are_read(network, tmp_path, wrapped, zipped, prefix):
    expected = network.state_dict()
    path = tmp_path / "state.pth"
    content = {prefix + name: tensor for name, tensor in expected.items()}
    content = {"state_dict": content, "arch": "a name"} if wrapped else content
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(str(path))
    assert list(found) == list(expected)
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name].numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_floats_of_other_widths_are_loaded(network, tmp_path, dtype):
    state = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    model = keras_model("resnet20")
    load_weights(model, "resnet20", read_checkpoint(saved(tmp_path / "state.pth", state)))
    weights = snapshot(model)
    np.testing.assert_array_equal(weights["last_logits/kernel"], state["fc.weight"].float().numpy().T)
    np.testing.assert_array_equal(
        weights["stem_bn/moving_variance"], state["bn1.running_var"].float().numpy()
    )


def test_parameters_are_read_like_tensors(network, model, tmp_path):
    state = network.state_dict(keep_vars=True)
    assert isinstance(state["fc.weight"], torch.nn.Parameter)
    found = read_checkpoint(saved(tmp_path / "state.pth", state))
    np.testing.assert_array_equal(found["fc.weight"], state["fc.weight"].detach().numpy())


def test_the_first_missing_tensor_is_named(model, state):
    for name in ("fc.bias", "branch_layer2.6.running_mean", "group1_layer0.downsample.1.running_var"):
        del state[name]
    with pytest.raises(
        InputError,
        match=r"does not fit a resnet20 with 7 exits and 10 classes: it lacks the tensor "
        r"'group1_layer0\.downsample\.1\.running_var'",
    ):
        load_weights(model, "resnet20", state)


def test_a_deeper_networks_first_left_over_tensor_is_named(model, tmp_path):
    deeper = torch_networks.ResNet(32).state_dict()
    state = read_checkpoint(saved(tmp_path / "state.pth", deeper))
    with pytest.raises(
        InputError,
        match=r"a resnet20 with .*: its tensor 'group0_layer3\.conv1\.weight' has no place there\. "
        r"Give the --arch .* one of resnet20, resnet32,.* mobilenet_v2",
    ):
        load_weights(model, "resnet20", state)


def test_a_shallower_networks_first_missing_tensor_is_named(state):
    model = keras_model("resnet32")
    before = snapshot(model)
    with pytest.raises(InputError, match=r"a resnet32 .* lacks the tensor 'group0_layer3\.conv1\.weight'"):
        load_weights(model, "resnet32", state)
    for path, value in snapshot(model).items():
        np.testing.assert_array_equal(value, before[path])


def test_another_architectures_weights_are_refused(model, tmp_path):
    other = torch_networks.MobileNetV2().state_dict()
    state = read_checkpoint(saved(tmp_path / "state.pth", other))
    with pytest.raises(InputError, match=r"a resnet20 .* lacks the tensor 'conv1\.weight'"):
        load_weights(model, "resnet20", state)


def test_another_number_of_classes_is_refused(model, tmp_path):
    wider = torch_networks.ResNet(20, num_classes=100).state_dict()
    state = read_checkpoint(saved(tmp_path / "state.pth", wider))
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
        load_weights(model, "resnet20", read_checkpoint(saved(tmp_path / "state.pth", state)))


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
        load_weights(model, "resnet20", read_checkpoint(saved(tmp_path / "state.pth", state)))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(network, tmp_path, share, zipped):
    path = saved(tmp_path / "state.pth", network.state_dict(), _use_new_zipfile_serialization=zipped)
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
