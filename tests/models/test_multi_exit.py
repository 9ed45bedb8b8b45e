import keras
import numpy as np
import pytest
from keras import layers

from rdi_keras.errors import InputError
from rdi_keras.inference import cost_table
from rdi_keras.models import Backbone, MultiExitModel, Stage

IMAGES = np.random.default_rng(0).uniform(0, 1, (5, 6, 6, 1)).astype(np.float32)


class Tripwire(layers.Layer):
    """Hands features on; counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def call(self, features):
        self.calls += 1
        return features


@pytest.fixture
def watched():
    """A model with a tripwire in every segment and head: segment k, head k, segment k+1, …"""
    wires = [Tripwire() for _ in range(6)]
    stages = [
        Stage(segment, lambda features, head=head: head(layers.Dense(2)(layers.Flatten()(features))))
        for segment, head in zip(wires[::2], wires[1::2], strict=True)
    ]
    model = MultiExitModel.from_backbone(Backbone("watched", (6, 6, 1), tuple(stages)))
    for wire in wires:
        wire.calls = 0
    return model, wires


def test_outputs_are_named_exits(tiny_model):
    outputs = tiny_model(IMAGES, training=False)
    assert list(outputs) == ["exit_1", "exit_2", "exit_3"]
    assert {name: each.shape for name, each in outputs.items()} == dict.fromkeys(outputs, (5, 4))
    assert list(tiny_model.predict(IMAGES, verbose=0)) == list(outputs)


def test_it_is_a_functional_model_of_the_backbones_facts(tiny_model):
    plain = keras.Model(*[keras.Input((1,))] * 2)
    assert isinstance(tiny_model, type(plain))
    assert tiny_model.input_shape == (None, 6, 6, 1)
    assert (tiny_model.num_exits, tiny_model.num_classes, tiny_model.name) == (3, 4, "tiny")


def test_until_calibrated_the_thresholds_let_nobody_leave(tiny_model):
    assert tiny_model.thresholds.shape == (2,)
    np.testing.assert_array_equal(tiny_model.thresholds, [0, 0])
    assert all(tiny_model.thresholds is not each for each in tiny_model.trainable_weights)


@pytest.mark.parametrize("num_exits", [3, 1])
def test_saving_keeps_class_numbers_and_thresholds(tiny_backbone, tmp_path, num_exits):
    backbone = tiny_backbone if num_exits == 3 else tiny_backbone.without_side_exits()
    model = MultiExitModel.from_backbone(backbone)
    model.thresholds.assign(np.linspace(0.1, 1.2, num_exits - 1))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    assert type(loaded) is MultiExitModel
    assert (loaded.num_exits, loaded.name) == (num_exits, model.name)
    np.testing.assert_array_equal(loaded.thresholds, model.thresholds)
    for expected, given in zip(model.logits(IMAGES), loaded.logits(IMAGES), strict=True):
        np.testing.assert_array_equal(given, expected)
    np.testing.assert_array_equal(loaded(IMAGES)["exit_1"], model(IMAGES)["exit_1"])


def test_a_config_makes_the_same_network(tiny_model):
    made = MultiExitModel.from_config(tiny_model.get_config())
    assert [each.shape for each in made.weights] == [each.shape for each in tiny_model.weights]
    made.set_weights(tiny_model.get_weights())
    np.testing.assert_array_equal(made(IMAGES)["exit_3"], tiny_model(IMAGES)["exit_3"])


def test_segments_called_one_by_one_give_the_whole_model(tiny_model):
    whole = tiny_model(IMAGES, training=False)
    features = IMAGES
    for number, (segment, head) in enumerate(
        zip(tiny_model.segments, tiny_model.heads, strict=True), start=1
    ):
        features = segment(features, training=False)
        np.testing.assert_allclose(head(features, training=False), whole[f"exit_{number}"], rtol=1e-6)


def test_segments_share_their_weights_with_the_whole_model(tiny_model):
    inside = [weight for part in (*tiny_model.segments, *tiny_model.heads) for weight in part.weights]
    whole = {id(weight) for weight in tiny_model.weights}
    assert {id(weight) for weight in inside} | {id(tiny_model.thresholds)} == whole


@pytest.mark.parametrize("up_to", [1, 2, 3, None])
def test_logits_up_to_an_exit_run_nothing_beyond(watched, up_to):
    model, wires = watched
    logits = model.logits(IMAGES, up_to)
    depth = up_to or 3
    assert [wire.calls for wire in wires] == [1] * 2 * depth + [0] * 2 * (3 - depth)
    whole = model(IMAGES)
    assert len(logits) == depth
    for number, each in enumerate(logits, start=1):
        np.testing.assert_array_equal(each, whole[f"exit_{number}"])


def test_iterating_runs_no_segment_before_it_is_asked_for(watched):
    model, wires = watched
    exits = model.iter_logits(IMAGES)
    assert sum(wire.calls for wire in wires) == 0
    next(exits)
    assert [wire.calls for wire in wires] == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("up_to", [0, 4, -1])
def test_an_exit_that_is_not_there_is_refused(tiny_model, up_to):
    with pytest.raises(InputError, match=f"1 to 3. Received: {up_to}"):
        tiny_model.logits(IMAGES, up_to)


def test_training_mode_reaches_the_parts(tiny_model):
    calm = [tiny_model.logits(IMAGES)[-1].numpy() for _ in range(2)]
    np.testing.assert_array_equal(*calm)
    dropped = [tiny_model.logits(IMAGES, training=True)[-1].numpy() for _ in range(2)]
    assert not np.array_equal(*dropped)


def test_without_side_exits_the_trunk_costs_the_same(tiny_backbone):
    full = cost_table(MultiExitModel.from_backbone(tiny_backbone))
    bare = cost_table(MultiExitModel.from_backbone(tiny_backbone.without_side_exits()))
    assert bare.segments == (sum(full.segments),)
    assert bare.heads == full.heads[-1:]
    assert bare.backbone == full.backbone == bare.cumulative[-1] < full.cumulative[-1]
    assert len(tiny_backbone.stages) == 4
    assert [stage.head is None for stage in tiny_backbone.stages] == [True, False, False, False]


@pytest.mark.parametrize("stages", [(), (Stage(layers.Flatten()),)])
def test_a_backbone_without_a_last_head_is_refused(stages):
    with pytest.raises(InputError, match="last stage of backbone 'headless' needs a head"):
        MultiExitModel.from_backbone(Backbone("headless", (6, 6, 1), stages))


@pytest.mark.parametrize(("num_segments", "num_heads"), [(0, 0), (1, 0), (1, 2)])
def test_segments_and_heads_must_pair(tiny_model, num_segments, num_heads):
    with pytest.raises(InputError, match=f"Received: {num_segments} segments, {num_heads} heads"):
        MultiExitModel(tiny_model.segments[:num_segments], tiny_model.heads[:num_heads])


@pytest.mark.parametrize("numbers", [[1, 2, 3], [1, 3], [2, 3], [3]])
def test_exits_that_are_kept_give_the_same_logits(tiny_model, numbers, tmp_path):
    tiny_model.thresholds.assign([0.25, 0.5])
    kept = tiny_model.keep_exits(numbers)
    assert type(kept) is type(tiny_model)
    assert kept.num_exits == len(numbers)
    np.testing.assert_array_equal(kept.thresholds, np.array([0.25, 0.5])[np.array(numbers[:-1], int) - 1])
    whole = tiny_model.logits(IMAGES)
    kept.save(tmp_path / "kept.keras")
    for model in (kept, keras.models.load_model(tmp_path / "kept.keras", compile=False)):
        for number, logits in zip(numbers, model.logits(IMAGES), strict=True):
            np.testing.assert_allclose(logits, whole[number - 1], atol=1e-6)
    cost, before = cost_table(kept), cost_table(tiny_model)
    assert cost.backbone == before.backbone
    assert cost.heads == tuple(before.heads[number - 1] for number in numbers)
    assert sum(cost.segments) == sum(before.segments)


@pytest.mark.parametrize("numbers", [[], [1, 2], [3, 1], [0, 3], [1, 1, 3], [1, 4], [2.5, 3]])
def test_the_last_exit_must_be_kept_and_numbers_rise(tiny_model, numbers):
    with pytest.raises(InputError, match="rising numbers from 1 to 3, the last one included. Received"):
        tiny_model.keep_exits(numbers)
