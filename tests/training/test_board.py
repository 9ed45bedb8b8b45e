"""TensorBoard's files hold what is promised."""

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rdi_keras.training import TrainingBoard
from tests.training import tiny


def test_scalars_and_images_of_every_epoch(tmp_path):
    model = tiny.build()
    history = tiny.loop(model, None, callbacks=[TrainingBoard(tmp_path, tiny.data())]).run().history
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {f"threshold/exit_{k}" for k in (1,)} | {f"exit_share/exit_{k}" for k in (1, 2)} <= tags
    assert {
        "train/loss",
        "train/exit_1_loss",
        "held_out/exit_2_adversarial_accuracy",
        "learning_rate",
    } <= tags
    losses = [(each.step, float(tf.make_ndarray(each.tensor_proto))) for each in events.Tensors("train/loss")]
    assert [step for step, _ in losses] == list(range(1, len(history) + 1))
    np.testing.assert_allclose([loss for _, loss in losses], [row["loss"] for row in history], rtol=1e-6)
    shares = [float(tf.make_ndarray(events.Tensors(f"exit_share/exit_{k}")[-1].tensor_proto)) for k in (1, 2)]
    assert sum(shares) == 1
    images = tf.make_ndarray(events.Tensors("clean above attacked")[-1].tensor_proto)[2:]
    pair = tf.io.decode_png(images[0]).numpy() / 255
    assert pair.shape == (10, 5, 1)
    clean, attacked = pair[:5], pair[5:]
    np.testing.assert_allclose(clean, tiny.data().images[0], atol=1 / 255)
    assert 0 < np.abs(attacked - clean).max() <= 0.1 + 1 / 255
