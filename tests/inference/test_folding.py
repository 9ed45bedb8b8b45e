import keras
import numpy as np
import pytest
from keras import layers

from rdi_keras.inference import fold_batch_norm
from rdi_keras.models import Backbone, MultiExitModel, Stage, backbone, from_backbone


def with_lively_norms(model):
    """Gives every BatchNorm statistics that are not 0 and 1."""
    random = np.random.default_rng(0)
    for layer in norms(model):
        for weight in layer.weights:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def norms(model):
    return [each for each in model._flatten_layers() if isinstance(each, layers.BatchNormalization)]


def agree(model, folded):
    images = np.random.default_rng(1).uniform(0, 1, (5, *model.input_shape[1:])).astype(np.float32)
    for expected, found in zip(model.logits(images), folded.logits(images), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("name", "options"), [("resnet20", {}), ("mobilenet_v2", {"width": 0.25})])
def test_the_papers_networks_lose_their_norms_and_keep_their_logits(name, options):
    keras.utils.set_random_seed(0)
    model = with_lively_norms(
        MultiExitModel.from_backbone(backbone(name, (32, 32, 3), 10, heads="light", **options))
    )
    model.thresholds.assign(np.linspace(0.1, 1, model.num_exits - 1))
    folded = fold_batch_norm(model)
    assert norms(model)
    assert not norms(folded)
    agree(model, folded)
    np.testing.assert_array_equal(folded.thresholds, model.thresholds)


def chain(*body):
    """A network of one exit whose features pass through these layers."""

    def run(features):
        for layer in body:
            features = layer(features)
        return features

    stage = Stage(run, lambda features: layers.Dense(3)(layers.Flatten()(features)))
    return with_lively_norms(MultiExitModel.from_backbone(Backbone("chain", (6, 6, 2), (stage,))))


NORM = layers.BatchNormalization
FOLDED = {
    "convolution with bias": lambda: [layers.Conv2D(4, 3, bias_initializer="ones"), NORM()],
    "depthwise, several per channel": lambda: [layers.DepthwiseConv2D(3, depth_multiplier=2), NORM()],
    "dense": lambda: [layers.Dense(4), NORM()],
    "no scale, no centre": lambda: [layers.Conv2D(4, 3), NORM(scale=False, center=False, epsilon=0.1)],
    "inside a Sequential": lambda: [keras.Sequential([layers.Conv2D(4, 3), NORM()])],
    "frozen": lambda: [layers.Conv2D(4, 3), NORM(trainable=False)],
}
LEFT = {
    "after an activation": lambda: [layers.Conv2D(4, 3, activation="relu"), NORM()],
    "after nothing": lambda: [NORM(), layers.Conv2D(4, 3)],
    "other axis": lambda: [layers.Conv2D(4, 3), NORM(axis=1)],
}


@pytest.mark.parametrize("body", FOLDED.values(), ids=FOLDED)
def test_folded(body):
    model = chain(*body())
    folded = fold_batch_norm(model)
    assert not norms(folded)
    agree(model, folded)


@pytest.mark.parametrize("body", LEFT.values(), ids=LEFT)
def test_left_as_it_is(body):
    model = chain(*body())
    folded = fold_batch_norm(model)
    assert len(norms(folded)) == 1
    agree(model, folded)


def test_an_output_that_is_used_twice_keeps_its_norm():
    def body(features):
        features = layers.Conv2D(4, 3, padding="same")(features)
        return layers.Add()([features, NORM()(features)])

    stage = Stage(body, lambda features: layers.Dense(3)(layers.Flatten()(features)))
    model = with_lively_norms(MultiExitModel.from_backbone(Backbone("twice", (6, 6, 2), (stage,))))
    folded = fold_batch_norm(model)
    assert len(norms(folded)) == 1
    agree(model, folded)


def test_one_of_two_outputs_keeps_its_norm():
    inputs = keras.Input((6, 6, 2))
    features = layers.Conv2D(4, 3)(inputs)
    inner = keras.Model(inputs, [features, NORM()(features)])
    model = chain(lambda features: layers.Add()(inner(features)))
    folded = fold_batch_norm(model)
    assert len(norms(folded)) == 1
    agree(model, folded)


def test_an_adapted_normalization_stays_adapted():
    scale = layers.Normalization()
    scale.adapt(np.random.default_rng(0).normal(5, 3, (50, 6, 6, 2)))
    model = chain(scale, layers.Conv2D(4, 3), NORM())
    agree(model, fold_batch_norm(model))


def test_exits_of_any_network_do_not_keep_it_from_being_folded():
    blocks = [
        [layers.Conv2D(4, 3, padding="same"), NORM(), layers.ReLU(name=f"cut_{number}")] for number in (1, 2)
    ]
    trunk = keras.Sequential(
        [keras.Input((6, 6, 2)), *blocks[0], *blocks[1], layers.Flatten(), layers.Dense(3)]
    )
    model = with_lively_norms(from_backbone(trunk, ["cut_1"]))
    folded = fold_batch_norm(model)
    assert norms(model)
    assert not norms(folded)
    agree(model, folded)


def test_a_norm_behind_an_exit_stays_and_weights_are_copies():
    trunk = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(4, 3, name="cut"), NORM(), layers.Flatten(), layers.Dense(3)]
    )
    model = with_lively_norms(from_backbone(trunk, ["cut"]))
    folded = fold_batch_norm(model)
    assert len(norms(folded)) == 1
    agree(model, folded)
    before = [each.numpy() for each in model.weights]
    for weight in folded.weights:
        weight.assign(weight * 0)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(weight, old)
