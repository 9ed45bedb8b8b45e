import numpy as np
import pytest
from keras import layers

from rdi_keras.errors import InputError
from rdi_keras.inference import CONVOLUTION_ONLY, cost_table
from rdi_keras.models import mobilenet_v2
from tests.models.networks import built

UNIT = 2**20


def test_published_costs():
    cost = cost_table(built("mobilenet_v2"), CONVOLUTION_ONLY)
    # Source: Hu et al., ICLR 2020, and its code; convolutions only, truncated there.
    published = [7.94, 22.91, 30.12, 36.55, 51.16, 67.91, 86.92]
    assert np.array(cost.own_branch_only) / UNIT == pytest.approx(published, abs=0.01)


def test_the_papers_places_of_exits():
    stages = mobilenet_v2((32, 32, 3), 10).stages
    assert [layer for layer, stage in enumerate(stages, start=1) if stage.head] == [2, 5, 8, 10, 13, 16, 19]


@pytest.mark.parametrize(
    ("size", "after_each_group"),
    [
        (32, [32, 32, 16, 8, 8, 4, 4]),
        (64, [32, 32, 16, 8, 8, 4, 4]),
        (96, [48, 48, 24, 12, 12, 6, 6]),
        # As in the original.
        (224, [112, 56, 28, 14, 14, 7, 7]),
    ],
)
def test_sizes_and_channels_after_each_group(size, after_each_group):
    model = built("mobilenet_v2", size, heads="light")
    trunk = {layer.name: layer.output.shape[1:] for segment in model.segments for layer in segment.layers}
    last_layers = [2, 4, 7, 11, 14, 17, 18]
    assert [trunk[f"layer_{layer}_bn3"] for layer in last_layers] == [
        (rows, rows, channels)
        for rows, channels in zip(after_each_group, [16, 24, 32, 64, 96, 160, 320], strict=True)
    ]
    assert model.segments[-1].output_shape[1:] == (after_each_group[-1], after_each_group[-1], 1280)


@pytest.mark.parametrize("width", [0.25, 0.75, 1.4])
def test_width_scales_channels_in_steps_of_eight(width):
    model = built("mobilenet_v2", heads="light", width=width)
    channels = [
        each.filters
        for segment in model.segments
        for each in segment.layers
        if isinstance(each, layers.Conv2D) and not isinstance(each, layers.DepthwiseConv2D)
    ]
    assert all(each % 8 == 0 for each in channels)
    ratio = cost_table(model).backbone / cost_table(built("mobilenet_v2", heads="light")).backbone
    assert (ratio < 1) == (width < 1)
    assert ratio == pytest.approx(width**2, rel=0.6)


def test_a_short_cut_is_there_at_stride_one_alone():
    names = {
        layer.name for segment in built("mobilenet_v2", heads="light").segments for layer in segment.layers
    }
    # Channels change at stride 1 in the first layer of groups 1, 2, 5 and 7.
    assert {each for each in names if "shortcut_conv" in each} == {
        f"layer_{layer}_shortcut_conv" for layer in (2, 3, 12, 18)
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"exits_after": [19]}, "layers 1 to 18"),
        ({"exits_after": [0]}, "layers 1 to 18"),
        ({"heads": "none"}, "Allowed: paper, light"),
        ({"width": 0}, "width must be above 0 and at most 4. Received: 0"),
        ({"width": -1}, "width must be above 0"),
    ],
)
def test_what_is_not_allowed_is_said(options, said):
    with pytest.raises(InputError, match=said):
        mobilenet_v2((32, 32, 3), 10, **options)
