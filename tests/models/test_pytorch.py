"""The networks in PyTorch and in Keras, with the same weights."""

import os
import pathlib

import numpy as np
import pytest

from rdi_keras import models
from rdi_keras.data.tfds import DATA_DIR_VARIABLE
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


@pytest.mark.parametrize(
    ("architecture", "prefix"),
    [("resnet20", ""), ("resnet32", "module."), ("mobilenet_v2", "module.")],
)
def test_logits_of_all_exits_are_those_of_pytorch(architecture, prefix, images, tmp_path):
    network = torch_networks.make(architecture)
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    model = keras_model(architecture)
    before = snapshot(model)
    load_weights(model, architecture, read_checkpoint(torch_networks.save(tmp_path / "file.pth.tar", state)))

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
def test_floats_of_other_widths_are_read(network, tmp_path, dtype):
    state = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    found = read_checkpoint(torch_networks.save(tmp_path / "state.pth", state))
    assert list(found) == list(state)
    for name, value in found.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, state[name].float().numpy())


def test_parameters_are_read_like_tensors(network, tmp_path):
    state = network.state_dict(keep_vars=True)
    assert isinstance(state["fc.weight"], torch.nn.Parameter)
    found = read_checkpoint(torch_networks.save(tmp_path / "state.pth", state))
    np.testing.assert_array_equal(found["fc.weight"], state["fc.weight"].detach().numpy())
