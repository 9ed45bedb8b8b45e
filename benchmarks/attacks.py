"""What attacks cost on a ResNet-38 with the paper's seven exits, as ratios in one process.

    python benchmarks/attacks.py

`max_average` runs the stages up to the attacked exit alone; beside it stands the same attack on a network
that runs whole for every exit. `exit_aware` stands beside `average`. Weights are random and no sample is ever
left alone, so that both sides of a ratio do the same number of steps.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from rdi_keras.attacks import Attack, CompiledAttack, objective, pgd
from rdi_keras.models import MultiExitModel, backbone

BATCH, STEPS, ROUNDS = 64, 4, 5


class Whole:
    """Every exit is computed and every loss asks for all of them, as in the authors' code."""

    def __init__(self, model: MultiExitModel):
        self.model = model
        self.num_exits, self.num_classes = model.num_exits, model.num_classes

    def logits(self, images: tf.Tensor, up_to: int | None = None) -> list[tf.Tensor]:
        """Logits of exits 1 … `up_to`, tied to those of all others by a term that is 0."""
        logits = self.model.logits(images)
        rest = tf.add_n([tf.reduce_mean(each, axis=-1, keepdims=True) for each in logits])
        return [each + 0.0 * rest for each in logits[:up_to]]


def main() -> None:
    """Times all ways interleaved and prints the ratios of the medians."""
    keras.utils.set_random_seed(0)
    model = MultiExitModel.from_backbone(backbone("resnet38", (32, 32, 3), 10))
    model.thresholds.assign(np.full(model.num_exits - 1, 1.0))
    random = np.random.default_rng(0)
    images = random.uniform(0, 1, (BATCH, 32, 32, 3)).astype(np.float32)
    # The answer as it stands, and a tiny ball: nobody is fooled, so everybody takes every step.
    labels = np.argmax(model.logits(images)[-1], axis=-1)
    ways = {
        "max_average": ("max_average", model),
        "max_average, whole network": ("max_average", Whole(model)),
        "average": ("average", model),
        "exit_aware": ("exit_aware", model),
    }
    ready = {
        name: CompiledAttack(Attack(objective(goal), pgd("1e-6", STEPS)), network)
        for name, (goal, network) in ways.items()
    }
    seconds = {name: [] for name in ways}
    for round_number in range(ROUNDS + 1):  # The first round compiles and does not count.
        for name, attack in ready.items():
            start = time.perf_counter()
            attack(images, labels, model.thresholds)
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    passes = {attack.backward for name, attack in ready.items() if name.startswith("max_average")}
    if len(passes) > 1:
        raise RuntimeError(f"Both ways must take the same number of steps. Received: {passes}")
    median = {name: statistics.median(each) for name, each in seconds.items()}
    for name, each in median.items():
        print(f"{name}: {each:.2f} s")
    print(f"max_average / whole network: {median['max_average'] / median['max_average, whole network']:.2f}")
    print(f"max_average / 7 × average: {median['max_average'] / (model.num_exits * median['average']):.2f}")
    print(f"exit_aware / average: {median['exit_aware'] / median['average']:.2f}")


if __name__ == "__main__":
    main()
