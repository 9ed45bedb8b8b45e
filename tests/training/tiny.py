"""A training of seconds with everything in it that has a state; run as a script, one that can be killed.

    python -m tests.training.tiny FOLDER

It prints a line per step, writes a state after every third, and at the end `weights.npz`.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from rdi_keras.attacks import PGD, Attack, CompiledAttack, objective, pgd
from rdi_keras.data import Split
from rdi_keras.data.pipeline import TrainingBatches
from rdi_keras.defenses import CarriedPerturbation, OverfittingProbe, RobustModel
from rdi_keras.models import Backbone, Stage
from rdi_keras.training import Checkpoints, TrainingLoop

EPOCHS, BATCH = 3, 8


def data() -> Split:
    """Three classes that a bright row tells apart."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 40)
    images = random.uniform(0, 0.3, (40, 5, 5, 1)).astype(np.float32)
    images[np.arange(40), labels + 1] += 0.7
    return Split(images, labels)


def build(replays: int = 1) -> RobustModel:
    def body(features):
        features = layers.Conv2D(4, 3, padding="same")(features)
        return layers.Dropout(0.2)(layers.ReLU()(layers.BatchNormalization()(features)))

    def head(features):
        return layers.Dense(3)(layers.Flatten()(features))

    keras.utils.set_random_seed(1)
    model = RobustModel.from_backbone(Backbone("tiny", (5, 5, 1), (Stage(body, head), Stage(body, head))))
    attack = Attack(objective("average"), PGD(0.1, num_steps=1, step_size=0.1))
    carried = CarriedPerturbation(0.1, (BATCH, 5, 5, 1)) if replays > 1 else None
    model.compile(keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9), attack, carried=carried)
    return model


def loop(model, folder, stop=None, callbacks=(), steps=3, replays=1, **options) -> TrainingLoop:
    batches = TrainingBatches(data(), BATCH, seed=3, pad_crop=1, flip=True, replays=replays)
    probe = OverfittingProbe(CompiledAttack(Attack(objective("average"), pgd(0.1, 2)), model), data())
    checkpoints = folder and Checkpoints(Path(folder), "model", "same", 60, steps)
    return TrainingLoop(model, batches, data(), EPOCHS, [probe, *callbacks], checkpoints, stop, **options)


def main(folder: str) -> None:
    tf.config.experimental.enable_op_determinism()
    model = build()
    told = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: print("step", step, flush=True)
    )
    loop(model, folder, callbacks=[told]).run()
    np.savez(Path(folder, "weights.npz"), *model.get_weights())
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
