import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers

from rdi_keras.inference import EntropyPolicy, adaptive, cost_table, entropy
from rdi_keras.models import Backbone, MultiExitModel, Stage

SIZES = st.one_of(st.sampled_from([0, 1, 300]), st.integers(0, 300))
DTYPES = {
    "probabilities": tf.float32,
    "label": tf.int64,
    "exit": tf.int32,
    "entropy": tf.float32,
    "macs": tf.float32,
}


def compiled(model):
    return tf.function(
        lambda images, thresholds: adaptive(model, images, thresholds),
        input_signature=[
            tf.TensorSpec([None, *model.input_shape[1:]]),
            tf.TensorSpec([None, model.num_exits - 1]),
        ],
    )


def spread_model(num_exits):
    """Random weights, scaled so that entropies spread over all of 0 … ln 4."""
    keras.utils.set_random_seed(1)

    def body(features):
        return layers.Rescaling(3.0)(layers.Conv2D(3, 3, padding="same", activation="relu")(features))

    def head(features):
        features = layers.Dropout(0.5)(layers.Flatten()(features))
        return layers.Rescaling(2.0)(layers.Dense(4)(layers.BatchNormalization()(features)))

    return MultiExitModel.from_backbone(Backbone("spread", (4, 4, 1), (Stage(body, head),) * num_exits))


MODELS = {num_exits: spread_model(num_exits) for num_exits in (1, 3)}
RUNS = {
    (num_exits, mode): compiled(model)
    if mode == "graph"
    else lambda *each, model=model: adaptive(model, *each)
    for num_exits, model in MODELS.items()
    for mode in ("graph", "eager")
}


@pytest.mark.parametrize(("num_exits", "mode"), RUNS)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), size=SIZES, low=st.floats(-0.5, 1.5), spread=st.floats(0, 1))
def test_answers_are_those_of_computing_everything(num_exits, mode, seed, size, low, spread):
    model, random = MODELS[num_exits], np.random.default_rng(seed)
    images = random.uniform(0, 1, (size, 4, 4, 1)).astype(np.float32)
    thresholds = random.uniform(low, low + spread, (size, num_exits - 1)).astype(np.float32)
    logits = model.logits(images)
    entropies = np.stack([entropy(each) for each in logits], axis=1)
    # Numbers of a part of a batch may differ in the last bit from those of the whole.
    assume((np.abs(entropies[:, :-1] - thresholds) > 1e-5).all())

    given_out = RUNS[num_exits, mode](images, thresholds)

    expected, exits = EntropyPolicy(thresholds).answer(logits)
    assert {name: each.dtype for name, each in given_out.items()} == DTYPES
    np.testing.assert_array_equal(given_out["exit"], exits)
    np.testing.assert_array_equal(given_out["macs"], np.array(cost_table(model).cumulative)[exits - 1])
    np.testing.assert_allclose(given_out["probabilities"], tf.nn.softmax(expected), atol=1e-5)
    np.testing.assert_allclose(given_out["entropy"], entropy(expected), atol=1e-5)
    np.testing.assert_array_equal(given_out["label"], tf.argmax(given_out["probabilities"], axis=-1))
    assert given_out["probabilities"].shape == (size, 4)


def test_the_random_models_leave_everywhere():
    images = np.random.default_rng(0).uniform(0, 1, (300, 4, 4, 1)).astype(np.float32)
    exits = adaptive(MODELS[3], images, tf.fill((300, 2), 0.9))["exit"]
    assert (np.bincount(exits, minlength=4)[1:] > 20).all()


class Watch(layers.Layer):
    """Hands features on, and notes for how many samples it really ran."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def call(self, features):
        def note(values):
            self.sizes.append(len(values))
            return values

        noted = tf.numpy_function(note, [features], features.dtype)
        return tf.ensure_shape(noted, features.shape)


@pytest.fixture(params=["graph", "eager"])
def watched(request):
    """A runner of a model whose entropy falls as the image brightens, and its segments' watches."""
    watches = [Watch() for _ in range(3)]

    def head(features):
        brightness = layers.GlobalAveragePooling2D()(features)
        return layers.Dense(2, kernel_initializer=keras.initializers.Constant([[9.0, 0.0]]))(brightness)

    backbone = Backbone("watched", (2, 2, 1), tuple(Stage(watch, head) for watch in watches))
    model = MultiExitModel.from_backbone(backbone)
    return (compiled(model) if request.param == "graph" else lambda *each: adaptive(model, *each)), watches


def images_of(*brightness):
    return tf.broadcast_to(tf.reshape(tf.constant(brightness), (-1, 1, 1, 1)), (len(brightness), 2, 2, 1))


@pytest.mark.parametrize(
    ("thresholds", "sizes"),
    [
        ([[0.6, 0.6]] * 4, [[4], [2], [2]]),  # The two bright ones leave at once.
        ([[9.0, 9.0]] * 4, [[4], [], []]),
        ([[0.0, 9.0]] * 4, [[4], [4], []]),
        ([[0.0, 0.0]] * 4, [[4], [4], [4]]),
        ([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0], [0.0, 0.0]], [[4], [3], [1]]),
    ],
)
def test_a_sample_that_left_costs_nothing_further(watched, thresholds, sizes):
    run, watches = watched
    run(images_of(0.0, 1.0, 0.0, 1.0), tf.constant(thresholds))
    assert [watch.sizes for watch in watches] == sizes


def test_an_empty_batch_runs_nothing(watched):
    run, watches = watched
    answers = run(tf.zeros((0, 2, 2, 1)), tf.zeros((0, 2)))
    assert [watch.sizes for watch in watches] == [[], [], []]
    assert {name: len(each) for name, each in answers.items()} == dict.fromkeys(DTYPES, 0)


def test_no_samples_answer_depends_on_its_neighbours(watched):
    run, _ = watched
    images, thresholds = images_of(0.0, 1.0, 0.5, 0.7), tf.constant([[0.6, 0.1]] * 4)
    together = run(images, thresholds)
    for sample in range(4):
        alone = run(images[sample : sample + 1], thresholds[sample : sample + 1])
        for name, values in alone.items():
            np.testing.assert_allclose(values[0], together[name][sample], rtol=1e-6)


def test_what_is_no_number_goes_on_to_the_last_exit(watched):
    run, _ = watched
    images = tf.concat([images_of(1.0), tf.fill((1, 2, 2, 1), np.nan)], axis=0)
    assert run(images, tf.fill((2, 2), 9.0))["exit"].numpy().tolist() == [1, 3]
