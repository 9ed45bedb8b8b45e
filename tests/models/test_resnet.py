import time

import keras
import numpy as np
import pytest
from keras import layers

from rdi_keras.errors import InputError
from rdi_keras.inference import CONVOLUTION_ONLY, cost_table
from rdi_keras.models import DEPTHS, MultiExitModel, resnet, resnet18
from rdi_keras.models.blocks import convolution
from tests.models.networks import built

UNIT = 2**20


@pytest.fixture
def resnet38():
    return built("resnet38")


def kinds(model, kind):
    parts = (*model.segments, *model.heads)
    return [layer for part in parts for layer in part.layers if isinstance(layer, kind)]


def test_published_costs(resnet38):
    cost = cost_table(resnet38, CONVOLUTION_ONLY)
    # Source: Hu et al., ICLR 2020, and its code; convolutions only, truncated there.
    published = [16.79, 30.29, 36.54, 50.04, 61.42, 74.92, 79.42]
    assert np.array(cost.own_branch_only) / UNIT == pytest.approx(published, abs=0.01)
    charged = [16.80, 37.67, 51.30, 65.92, 78.42, 91.92, 96.42]
    assert np.array(cost.cumulative) / UNIT == pytest.approx(charged, abs=0.01)


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_depth_has_seven_exits_two_in_each_group(depth):
    backbone = resnet((32, 32, 3), 10, depth=depth)
    exits = [block for block, stage in enumerate(backbone.stages) if stage.head is not None]
    per_group = (depth - 2) // 6
    assert len(exits) == 7
    assert exits[-1] == 3 * per_group
    assert [(block - 1) // per_group for block in exits] == [0, 0, 1, 1, 2, 2, 2]


def layers_in_depth(model):
    """Those that the network's name counts: of the trunk and the last head, without short cuts."""
    names = [each.name for each in kinds(model, (layers.Conv2D, layers.Dense))]
    return len([each for each in names if not each.startswith("head") and "shortcut" not in each])


def test_the_papers_places_of_exits():
    stages = resnet((32, 32, 3), 10, depth=38).stages
    assert [block for block, stage in enumerate(stages) if stage.head] == [2, 5, 8, 11, 14, 17, 18]


def test_resnet110_with_seven_exits_is_built_in_ten_seconds():
    start = time.monotonic()
    model = MultiExitModel.from_backbone(resnet((32, 32, 3), 10, depth=110))
    assert time.monotonic() - start < 10
    assert model.num_exits == 7
    assert layers_in_depth(model) == 110


def test_layers_and_shapes_of_the_groups(resnet38):
    assert layers_in_depth(resnet38) == 38
    shapes = [segment.output_shape[1:] for segment in resnet38.segments]
    assert shapes == [(32, 32, 16)] * 2 + [(16, 16, 32)] * 2 + [(8, 8, 64)] * 3


def test_batch_norm_has_pytorchs_constants(resnet38):
    found = {(each.epsilon, each.momentum) for each in kinds(resnet38, layers.BatchNormalization)}
    assert found == {(1e-5, 0.9)}


@pytest.mark.parametrize("corner", [0, -1])
def test_a_stride_pads_the_same_on_all_sides(corner):
    """Keras's own `same` padding would shift every map by a pixel."""
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, convolution(inputs, 1, 3, 2, name="conv"))
    kernel = np.arange(9, dtype=np.float32).reshape(3, 3, 1, 1)
    model.get_layer("conv").set_weights([kernel])
    image = np.zeros((1, 8, 8, 1), np.float32)
    image[0, corner, corner] = 1
    # Output (0, 0) sees rows −1 to 1, so pixel 0 meets the kernel's middle; (3, 3) sees rows 5 to 7.
    expected = np.zeros((4, 4))
    expected[corner, corner] = kernel[1, 1, 0, 0] if corner == 0 else kernel[2, 2, 0, 0]
    np.testing.assert_allclose(model(image)[0, :, :, 0], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "first_map"), [(32, 32), (63, 63), (64, 32), (96, 48), (127, 64), (128, 32), (224, 56)]
)
def test_resnet18s_stem_fits_the_image(size, first_map):
    stem = resnet18((size, size, 3), 5).stages[0].body
    assert stem(keras.Input((size, size, 3))).shape[1:] == (first_map, first_map, 64)


def test_shapes_of_resnet18s_groups():
    model = built("resnet18", 224, heads="light")
    shapes = [segment.output_shape[1:] for segment in model.segments]
    assert shapes == [(56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: resnet((32, 32, 3), 10, depth=50), "depth must be one of 20, 32, .* Received: 50"),
        (lambda: resnet((32, 32, 3), 10, exits_after=[18]), r"blocks 1 to 17, each once. Received: \[18\]"),
        (lambda: resnet((32, 32, 3), 10, exits_after=[0, 2]), "blocks 1 to 17"),
        (lambda: resnet((32, 32, 3), 10, exits_after=[2, 2]), "each once"),
        (lambda: resnet((32, 32, 3), 10, heads="heavy"), "Unknown heads 'heavy'. Allowed: paper, light"),
        (lambda: resnet18((64, 64, 3), 10, exits_after=[8]), "blocks 1 to 7"),
    ],
)
def test_what_is_not_allowed_is_said(make, said):
    with pytest.raises(InputError, match=said):
        make()
