import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from rdi_keras.errors import InputError
from rdi_keras.models import MultiExitModel, small_cnn


def logits_of(model, count=2):
    images = np.random.default_rng(0).uniform(0, 1, (count, *model.input_shape[1:])).astype(np.float32)
    return [each.numpy() for each in model.logits(images)]


@pytest.mark.parametrize(
    ("input_shape", "num_classes"),
    [
        ((8, 8, 1), 10),
        ((28, 28, 1), 10),
        ((32, 32, 3), 100),
        ((5, 7, 2), 3),
        ((1, 1, 1), 2),
        ((20, 20, 1), 2),
    ],
)
def test_every_exit_gives_finite_logits(input_shape, num_classes):
    model = MultiExitModel.from_backbone(small_cnn(input_shape, num_classes, (1, 2, 3, 4)))
    assert model.num_exits == 5
    assert model.num_classes == num_classes
    logits = logits_of(model)
    assert [each.shape for each in logits] == [(2, num_classes)] * model.num_exits
    assert np.isfinite(logits).all()


@settings(max_examples=8)
@given(
    input_shape=st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(1, 4)),
    exits_after=st.sets(st.integers(1, 4)),
)
def test_any_image_size_and_any_exits_fit(input_shape, exits_after):
    model = MultiExitModel.from_backbone(small_cnn(input_shape, 2, sorted(exits_after)))
    assert [each.shape for each in logits_of(model)] == [(2, 2)] * (len(exits_after) + 1)


def test_the_published_layout_on_28_pixels():
    model = MultiExitModel.from_backbone(small_cnn((28, 28, 1), 10))
    # After conv 1; after conv 3, past one pooling; then conv 4, pooled to 4×4×64 and flattened.
    assert [each.output_shape[1:] for each in model.segments] == [(26, 26, 32), (10, 10, 64), (1024,)]

    def layout(part):
        return [
            (each.filters, each.strides, each.padding) if isinstance(each, layers.Conv2D) else each.units
            for each in part.layers
            if isinstance(each, layers.Conv2D | layers.Dense)
        ]

    trunk = [(32, (1, 1), "valid")] * 2 + [(64, (1, 1), "valid")] * 2
    assert [each for segment in model.segments for each in layout(segment)] == trunk
    assert [layout(head) for head in model.heads] == [
        [(16, (2, 2), "valid"), 200, 200, 10],
        [200, 200, 10],
        [200, 200, 10],
    ]


def test_the_order_of_exits_after_does_not_matter():
    shapes = [
        [each.output_shape for each in MultiExitModel.from_backbone(small_cnn((8, 8, 1), 3, order)).segments]
        for order in [(1, 3), (3, 1)]
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("exits_after", [[0], [5], [-1], [1, 1], [1, 2, 6], ["1"]])
def test_exits_after_what_is_no_convolution_are_refused(exits_after):
    with pytest.raises(InputError, match="convolutions 1 to 4, each once") as caught:
        small_cnn((8, 8, 1), 10, exits_after)
    assert str(exits_after) in str(caught.value)
