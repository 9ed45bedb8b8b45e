"""Image-steps per second of the compiled PGD-10 against a plain eager loop, on SmallCNN, batch 256.

    python benchmarks/pgd.py

Both run interleaved in one process; the figure is the ratio of the medians.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from rdi_keras.attacks import PGD, Attack, CompiledAttack, cross_entropy, objective
from rdi_keras.models import MultiExitModel, small_cnn

BATCH, STEPS, ROUNDS = 256, 10, 7
EPSILON, STEP_SIZE = 0.3, 0.075


def eager_pgd(model: MultiExitModel, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """PGD on the mean loss of all exits, as one would write it first."""
    iterate = images + tf.random.uniform(images.shape, -EPSILON, EPSILON)
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            tape.watch(iterate)
            logits = model(iterate, training=False).values()
            loss = tf.add_n([cross_entropy(each, labels) for each in logits])
        iterate = iterate + STEP_SIZE * tf.sign(tape.gradient(loss, iterate))
        iterate = tf.clip_by_value(iterate, images - EPSILON, images + EPSILON)
        iterate = tf.clip_by_value(iterate, 0.0, 1.0)
    return iterate


def main() -> None:
    """Times both and prints image-steps per second and their ratio."""
    model = MultiExitModel.from_backbone(small_cnn((28, 28, 1), num_classes=10))
    random = np.random.default_rng(0)
    images = tf.constant(random.uniform(0, 1, (BATCH, 28, 28, 1)), tf.float32)
    labels = tf.constant(random.integers(0, 10, BATCH))
    compiled = CompiledAttack(Attack(objective("average"), PGD(EPSILON, STEPS, STEP_SIZE)), model)
    ways = {
        "eager loop": lambda: eager_pgd(model, images, labels),
        "compiled": lambda: compiled(images, labels),
    }
    seconds = {name: [] for name in ways}
    for round_number in range(ROUNDS + 1):  # The first round compiles and does not count.
        for name, way in ways.items():
            start = time.perf_counter()
            way().numpy()
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    rates = {name: BATCH * STEPS / statistics.median(each) for name, each in seconds.items()}
    for name, rate in rates.items():
        print(f"{name}: {rate:,.0f} image-steps/s")
    print(f"ratio: {rates['compiled'] / rates['eager loop']:.2f}")


if __name__ == "__main__":
    main()
