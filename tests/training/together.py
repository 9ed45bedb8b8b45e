"""A training of seconds, alone or as one of several processes.

python -m tests.training.together KIND FOLDER INDEX [die]
"""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from rdi_keras.attacks import PGD, Attack, objective
from rdi_keras.cli.options import command
from rdi_keras.data.pipeline import TrainingBatches
from rdi_keras.defenses import RobustModel
from rdi_keras.models import Backbone, Stage
from rdi_keras.training import Checkpoints, TrainingLoop, join_cluster
from tests.training import tiny

EPOCHS, STEPS = 3, 5


def build() -> RobustModel:
    """Without BatchNorm and dropout, which see one device's share of a batch, and without random starts."""

    def body(features):
        return layers.Conv2D(4, 3, padding="same", activation="relu")(features)

    def head(features):
        return layers.Dense(3)(layers.Flatten()(features))

    keras.utils.set_random_seed(1)
    model = RobustModel.from_backbone(Backbone("tiny", (5, 5, 1), (Stage(body, head), Stage(body, head))))
    solver = PGD(0.1, num_steps=1, step_size=0.1, random_start=False)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), Attack(objective("average"), solver))
    return model


@command
def main(argv=None) -> None:
    kind, folder, index, *die = sys.argv[1:]
    if kind == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    cluster = join_cluster(kind)
    with cluster.strategy.scope():
        model = build()

    def tell_or_die(step, logs):
        print("step", flush=True)
        if die and int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == STEPS + 2:
            os.kill(os.getpid(), signal.SIGKILL)

    callbacks = [keras.callbacks.LambdaCallback(on_train_batch_end=tell_or_die)]
    checkpoints = Checkpoints(Path(folder), "model", "same", 1e9, STEPS, writes=cluster.is_chief)
    batches = TrainingBatches(tiny.data(), 8, seed=3)
    loop = TrainingLoop(model, batches, tiny.data(), EPOCHS, callbacks, checkpoints, cluster=cluster)
    history = loop.run().history
    named = {f"{number}": each for number, each in enumerate(model.get_weights())}
    np.savez(Path(folder, f"weights-{index}.npz"), **named, loss=[row["loss"] for row in history])


if __name__ == "__main__":
    sys.exit(main())
