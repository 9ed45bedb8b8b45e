import keras
import pytest
from keras import layers

from rdi_keras.errors import InputError
from rdi_keras.inference import CONVOLUTION_ONLY, CostTable, cost_table
from rdi_keras.models import Backbone, MultiExitModel, Stage, small_cnn

UNIT = 2**20


def model_of(*stages, input_shape=(8, 8, 2)):
    return MultiExitModel.from_backbone(Backbone("counted", input_shape, tuple(stages)))


def head(features):
    return layers.Dense(3)(layers.Flatten()(features))


def test_published_figures_of_small_cnn():
    cost = cost_table(MultiExitModel.from_backbone(small_cnn((28, 28, 1), 10)), CONVOLUTION_ONLY)
    # Source: Hu et al., ICLR 2020, and its code; convolutions only, truncated there.
    for macs, published in zip(cost.own_branch_only, [0.818, 7.00, 9.25], strict=True):
        assert macs / UNIT == pytest.approx(published, abs=0.01)


@pytest.fixture(scope="module")
def by_hand():
    def strided_then_depthwise(features):  # 8×8×2 → 4×4×4 → 4×4×8
        features = layers.Conv2D(4, 3, strides=2, padding="same")(features)
        return layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(features)

    def dense_on_rows(features):  # 4×4×8 → 16×8 → 16×5 → 80 → 3
        return head(layers.Dense(5)(layers.Reshape((16, 8))(features)))

    def grouped(features):  # 4×4×8 → 4×4×6
        features = layers.BatchNormalization()(layers.Conv2D(6, 1, groups=2)(features))
        return layers.Dropout(0.5)(layers.ReLU()(features))

    return model_of(Stage(strided_then_depthwise, dense_on_rows), Stage(grouped, head))


def test_every_kind_of_layer_by_hand(by_hand):
    strided, depthwise = 16 * (3 * 3 * 2 * 4), 16 * (3 * 3 * 4 * 2)
    rows, dense = 16 * (8 * 5), 80 * 3
    grouped, last = 16 * (8 // 2 * 6), 96 * 3
    assert cost_table(by_hand) == CostTable((strided + depthwise, grouped), (rows + dense, last))
    assert cost_table(by_hand, CONVOLUTION_ONLY) == CostTable((strided + depthwise, grouped), (0, 0))


def test_sums():
    cost = CostTable(segments=(100, 10, 1), heads=(2, 3, 4))
    assert cost.cumulative == [102, 115, 120]
    assert cost.own_branch_only == [102, 113, 115]
    assert cost.backbone == 115


def test_one_exit_costs_the_backbone():
    cost = CostTable(segments=(100,), heads=(2,))
    assert cost.cumulative == cost.own_branch_only == [cost.backbone] == [102]


def test_one_and_three_dimensional_convolutions():
    cost = cost_table(model_of(Stage(layers.Conv1D(5, 3), head), input_shape=(8, 2)))
    assert cost.segments == (6 * 3 * 2 * 5,)
    cost = cost_table(model_of(Stage(layers.Conv3D(5, 2), head), input_shape=(4, 4, 4, 2)))
    assert cost.segments == (3**3 * 2**3 * 2 * 5,)


def test_a_layer_that_is_called_twice_costs_twice():
    shared = layers.Conv2D(2, 3, padding="same")
    once = cost_table(model_of(Stage(shared, head))).segments[0]
    twice = cost_table(model_of(Stage(lambda features: shared(shared(features)), head)))
    assert once == 64 * 3 * 3 * 2 * 2
    assert twice.segments == (2 * once,)


@pytest.mark.parametrize(
    "inner",
    [
        lambda: keras.Sequential([layers.Flatten(), layers.Dense(3)]),
        lambda: keras.Sequential([layers.Input((8, 8, 2)), layers.Flatten(), layers.Dense(3)]),
        lambda: keras.Sequential([keras.Sequential([layers.Flatten()]), layers.Dense(3)]),
        lambda: keras.Model(*(lambda inputs: (inputs, head(inputs)))(keras.Input((8, 8, 2)))),
    ],
    ids=["sequential", "built sequential", "sequential in sequential", "functional"],
)
def test_models_inside_are_counted(inner):
    assert cost_table(model_of(Stage(layers.ReLU(), inner()))).heads == (128 * 3,)


class OwnCall(keras.Model):
    """What runs in its `call` is nothing that a graph shows."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, features):
        return self.dense(features)


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    "make",
    [lambda: layers.EinsumDense("abc,cd->abd", (2, 3)), lambda: layers.LSTM(3), OwnCall],
    ids=["EinsumDense", "LSTM", "OwnCall"],
)
def test_a_weighted_layer_without_a_rule_is_refused(make, trainable):
    unknown = make()
    model = model_of(
        Stage(layers.ReLU(), lambda features: head(unknown(layers.Reshape((2, 64))(features)))),
    )
    unknown.trainable = trainable
    with pytest.raises(InputError, match=f"No rule .* of type {type(unknown).__name__}.*Conv2D.*Dense"):
        cost_table(model)


def test_layers_without_a_weight_matrix_are_free():
    free = [layers.Rescaling(2.0), layers.BatchNormalization(), layers.LayerNormalization(), layers.ReLU()]

    def body(features):
        for layer in free:
            features = layer(features)
        return features + 1

    assert cost_table(model_of(Stage(body, head))).segments == (0,)


def test_an_image_size_that_is_not_fixed_is_refused():
    def pooled(features):
        return layers.Dense(3)(layers.GlobalAveragePooling2D()(features))

    model = model_of(Stage(layers.Conv2D(2, 3), pooled), input_shape=(None, None, 2))
    with pytest.raises(InputError, match=r"must be fixed. Received: \(None, None, 2\)"):
        cost_table(model)
