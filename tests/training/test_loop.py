"""A training that is cut anywhere ends as one that was not."""

import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from rdi_keras.errors import InputError, StoppedError, TrainingDivergedError
from rdi_keras.training import Checkpoints, Cluster, StopRequest
from tests.training import tiny

STEPS = 5


class Cut(keras.callbacks.Callback):
    """Stands for a power cut after a number of steps."""

    def __init__(self, after: int):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("cut")


@pytest.fixture(scope="module")
def uninterrupted():
    """Weights and history of a training in one piece, without any checkpoints."""
    model = tiny.build()
    history = tiny.loop(model, None).run().history
    return model.get_weights(), history


@pytest.mark.parametrize(("cuts", "replays"), [((1,), 1), ((4, 2, 6), 1), ((5, 4), 2)], ids=str)
def test_a_cut_training_ends_with_the_same_weights_and_history(uninterrupted, cuts, replays, tmp_path):
    weights, expected = uninterrupted
    if replays > 1:
        model = tiny.build(replays)
        expected, weights = tiny.loop(model, None, replays=replays).run().history, model.get_weights()
    for after in cuts:
        model = tiny.build(replays)
        with pytest.raises(RuntimeError, match="cut"):
            tiny.loop(model, tmp_path, callbacks=[Cut(after)], steps=2, replays=replays).run()
    model, told = tiny.build(replays), []
    saved = max((each.name for each in tmp_path.glob("*.npz")), default="model-0-0.npz")
    steps_done = [int(each) for each in saved.removesuffix(".npz").split("-")[1:]]
    count = Cut(10**9)
    resumed = tiny.loop(
        model, tmp_path, callbacks=[count], replays=replays, on_epoch=lambda rows: told.append(len(rows))
    )
    history = resumed.run().history
    per_epoch = STEPS * replays
    assert 10**9 - count.left == len(expected) * per_epoch - steps_done[0] * per_epoch - steps_done[1]
    assert max(steps_done) > 0 or cuts == (1,)
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert history == expected
    assert told[-1] == len(expected)


def test_the_running_mean_of_the_weights_is_what_training_ends_with(uninterrupted):
    model = tiny.build()
    model.optimizer.use_ema = False
    tiny.loop(model, None).run()
    pairs = zip(model.get_weights(), uninterrupted[0], strict=True)
    assert any(np.abs(ours - theirs).max() > 1e-4 for ours, theirs in pairs)


def test_a_finished_training_is_not_trained_on(tmp_path):
    model = tiny.build()
    history = tiny.loop(model, tmp_path).run().history
    again = tiny.build()
    assert tiny.loop(again, tmp_path, callbacks=[Cut(1)]).run().history == history
    for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_killed_process_ends_with_bit_identical_weights(tmp_path):
    """SIGKILL in the middle of epochs, with deterministic operations, against a process left alone."""

    def run(folder: Path, kill_after: int | None) -> int:
        """How many steps it took."""
        steps = 0
        command = [sys.executable, "-m", "tests.training.tiny", str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for number, line in enumerate(process.stdout, start=1):
            if number == kill_after:
                process.kill()
            steps += line.startswith("step")
            if line == "done\n":
                assert kill_after is None
        assert process.wait() == (0 if kill_after is None else -signal.SIGKILL)
        return steps

    alone, killed = tmp_path / "alone", tmp_path / "killed"
    everything = run(alone, None)
    steps = int(np.random.default_rng().integers(4, 9))
    print("killed after step", steps)
    run(killed, steps)
    assert run(killed, None) < everything
    with np.load(alone / "weights.npz") as expected, np.load(killed / "weights.npz") as found:
        for name in expected.files:
            np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_the_state_and_stops(name, tmp_path, uninterrupted):
    ask = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: step == 1 and signal.raise_signal(signal.Signals[name])
    )
    before = signal.getsignal(signal.Signals[name])
    with pytest.raises(StoppedError) as stopped, StopRequest() as stop:
        tiny.loop(tiny.build(), tmp_path, stop=stop, callbacks=[ask], steps=99).run()
    assert stopped.value.signal is signal.Signals[name]
    assert stopped.value.is_saved
    assert signal.getsignal(signal.Signals[name]) is before
    assert [each.name for each in tmp_path.iterdir()] == ["model-000000-00000002.npz"]
    model = tiny.build()
    tiny.loop(model, tmp_path).run()
    for ours, theirs in zip(model.get_weights(), uninterrupted[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_one_of_several_processes_that_is_told_to_stop_saves_nothing_new(tmp_path):
    ask = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: step == 1 and signal.raise_signal(signal.SIGTERM)
    )
    several = Cluster(tf.distribute.get_strategy(), num_workers=2)
    with pytest.raises(StoppedError, match="all processes agreed on") as stopped, StopRequest() as stop:
        tiny.loop(tiny.build(), tmp_path, stop=stop, callbacks=[ask], steps=99, cluster=several).run()
    assert not stopped.value.is_saved
    assert list(tmp_path.iterdir()) == []


def test_outside_training_a_signal_stops_at_once():
    with pytest.raises(StoppedError), StopRequest():
        signal.raise_signal(signal.SIGTERM)


def test_what_stops_training_is_raised_and_nothing_is_saved_of_it(tmp_path):
    class Diverge(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise TrainingDivergedError("nan")

    with pytest.raises(TrainingDivergedError):
        tiny.loop(tiny.build(), tmp_path, callbacks=[Diverge()], steps=1).run()
    assert not list(tmp_path.iterdir())


def test_a_state_of_other_settings_is_refused(tmp_path):
    tiny.loop(tiny.build(), tmp_path).run()
    with pytest.raises(InputError, match="of a training with other settings, data or software"):
        Checkpoints(tmp_path, "model", "another").restore()
