import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdi_keras import models
from rdi_keras.errors import InputError
from rdi_keras.inference import cost_table
from rdi_keras.models import MultiExitModel, light_head
from tests.models.networks import built

# A deeper ResNet has as many heads and a larger backbone.
USUAL = [
    *(("small_cnn", size) for size in (8, 28)),
    ("resnet20", 32),
    *((name, size) for name in ("resnet18", "mobilenet_v2") for size in (32, 64, 96, 224)),
]


@pytest.mark.parametrize(("name", "size"), USUAL)
def test_light_heads_together_cost_at_most_three_percent(name, size):
    channels = 1 if name == "small_cnn" else 3
    cost = cost_table(built(name, size, heads="light", channels=channels))
    assert 0 < sum(cost.heads[:-1]) <= 0.03 * cost.backbone


@settings(max_examples=12)
@given(height=st.integers(1, 60), width=st.integers(1, 60))
def test_a_light_head_pools_to_at_most_four_by_four(height, width):
    features = keras.Input((height, width, 3))
    head = keras.Model(features, light_head(5, "head")(features))
    rows, columns = head.get_layer("head_pool").output.shape[1:3]
    assert 1 <= rows <= 4
    assert 1 <= columns <= 4
    assert head.output_shape == (None, 5)


def test_a_light_head_takes_vectors_but_nothing_else():
    assert light_head(5)(keras.Input((7,))).shape == (None, 5)
    with pytest.raises(InputError, match=r"\[B, H, W, C\] or \[B, C\]. Received: \(None, 3, 4\)"):
        light_head(5)(keras.Input((3, 4)))


@pytest.mark.parametrize("heads", models.HEADS)
@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("resnet20", (5, 37), {"exits_after": [1, 4, 8]}),
        ("resnet18", (9, 6), {}),
        ("mobilenet_v2", (33, 7), {"exits_after": [1, 4, 9], "width": 0.25}),
    ],
)
def test_odd_image_sizes_give_finite_logits_at_every_exit(name, size, options, heads):
    model = MultiExitModel.from_backbone(models.backbone(name, (*size, 3), 3, heads=heads, **options))
    images = np.random.default_rng(0).uniform(0, 1, (2, *size, 3)).astype(np.float32)
    logits = model.logits(images)
    assert [each.shape for each in logits] == [(2, 3)] * model.num_exits
    assert np.isfinite(logits).all()
