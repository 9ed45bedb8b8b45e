import keras
import numpy as np
import pytest
from keras import layers

from rdi_keras.attacks import PGD, Attack, objective
from rdi_keras.defenses import RobustModel
from rdi_keras.errors import InputError
from rdi_keras.inference import cost_table
from rdi_keras.models import MultiExitModel, from_backbone

IMAGES = np.random.default_rng(0).uniform(0, 1, (4, 32, 32, 3)).astype(np.float32)
EXITS = ["block_2_add", "block_5_add", "block_12_add"]


@pytest.fixture(scope="module")
def trunk():
    keras.utils.set_random_seed(0)
    return keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=5, classifier_activation=None
    )


def small(last="linear"):
    """A residual block between two convolutions."""
    images = keras.Input((8, 8, 1))
    first = layers.Conv2D(4, 3, padding="same", name="first")(images)
    inner = layers.Conv2D(4, 3, padding="same", name="inner")(first)
    both = layers.Add(name="both")([first, inner])
    vector = layers.Flatten(name="vector")(both)
    return keras.Model(images, layers.Dense(3, activation=last, name="logits")(vector))


def test_a_network_of_keras_applications_gets_exits(trunk, tmp_path):
    model = from_backbone(trunk, EXITS)
    outputs = model(IMAGES, training=False)
    assert list(outputs) == ["exit_1", "exit_2", "exit_3", "exit_4"]
    assert {each.shape for each in outputs.values()} == {(4, 5)}
    np.testing.assert_allclose(outputs["exit_4"], trunk(IMAGES, training=False), atol=1e-6)
    cost = cost_table(model)
    assert sum(cost.heads[:-1]) <= 0.03 * cost.backbone

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for name, expected in outputs.items():
        np.testing.assert_allclose(loaded(IMAGES, training=False)[name], expected, atol=1e-6)


def test_weights_are_shared_with_the_model_given():
    trunk = small()
    model = from_backbone(trunk, ["both"])
    ours = {id(weight) for weight in model.weights}
    assert {id(weight) for weight in trunk.weights} <= ours


def test_it_trains_as_a_robust_model():
    keras.utils.set_random_seed(0)
    model = from_backbone(small(), ["first", "both"], model_class=RobustModel)
    assert type(model) is RobustModel
    model.compile("adam", Attack(objective("average"), PGD(0.1, 2, 0.1)), run_eagerly=True)
    images, labels = IMAGES[:, :8, :8, :1], np.array([0, 1, 2, 0])
    before = [weight.numpy().copy() for weight in model.trainable_weights]
    history = model.fit(images, labels, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert not any(np.array_equal(old, new) for old, new in zip(before, model.trainable_weights, strict=True))


def test_a_head_of_ones_own_is_made_once_per_exit():
    def head(features):
        return layers.Dense(3)(layers.GlobalAveragePooling2D()(features))

    model = from_backbone(small(), ["first", "both"], heads=head)
    kernels = [each.layers[-1].kernel for each in model.heads[:2]]
    assert kernels[0] is not kernels[1]
    assert kernels[0].shape == (4, 3)


@pytest.mark.parametrize(("exits", "num_exits"), [([], 1), (["vector"], 2), (["both", "vector"], 3)])
def test_no_exit_and_exits_at_the_very_end(exits, num_exits):
    trunk = small()
    model = from_backbone(trunk, exits)
    images = IMAGES[:, :8, :8, :1]
    assert model.num_exits == num_exits
    np.testing.assert_allclose(model.logits(images)[-1], trunk(images), atol=1e-6)


def test_a_sequential_model():
    trunk = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(2, 3, name="conv"), layers.Flatten(), layers.Dense(3)]
    )
    model = from_backbone(trunk, ["conv"])
    images = IMAGES[:, :8, :8, :1]
    assert isinstance(model, MultiExitModel)
    np.testing.assert_allclose(model.logits(images)[-1], trunk(images), atol=1e-6)


def two(inputs):
    first, second = keras.Input((3,)), keras.Input((3,))
    merged = layers.Add()([first, second])
    return keras.Model([first, second], merged) if inputs else keras.Model(first, [first, first])


@pytest.mark.parametrize(
    ("make", "exits", "options", "said"),
    [
        (small, ["nowhere"], {}, "No exit behind layer 'nowhere'"),
        (small, ["inner"], {}, "'logits' gives cannot be computed .* a short cut leads past 'inner'"),
        (small, ["both", "first"], {}, "'first' gives cannot be computed .* out of order"),
        (small, "both", {}, "must be a list of layer names. Received: 'both'"),
        (small, ["both", "both"], {}, "'both' is named twice"),
        (small, ["logits"], {}, "'logits' gives the last exit already"),
        (small, ["both"], {"heads": "heavy"}, "heads must be 'light' or a function.* Received: 'heavy'"),
        (small, ["both"], {"heads": layers.Flatten()}, r"logits of shape \[B, 3\].* Received: \(None, 256\)"),
        (lambda: small("softmax"), ["both"], {}, "Received: softmax of shape .*classifier_activation=None"),
        (lambda: two(inputs=True), [], {}, "one input. Received: 2"),
        (lambda: two(inputs=False), [], {}, "one output. Received: 2"),
        (lambda: keras.Sequential([layers.Flatten()]), [], {}, "a built Sequential"),
    ],
)
def test_what_cannot_be_done_is_said(make, exits, options, said):
    with pytest.raises(InputError, match=said):
        from_backbone(make(), exits, **options)
