"""What attacks cost on a ResNet-38 with the paper's seven exits, as ratios in one process.

    python benchmarks/attacks.py

`max_average` runs the stages up to the attacked exit alone. Beside it stand: the same attack on a network
that computes every exit in every forward pass (as in the authors' code), and running the whole network,
forward and backward, for every exit (N times `average`). `exit_aware` stands beside `average`. Weights are
random; nobody is fooled and left alone, so that both sides of a ratio do the same number of steps.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from rdi_keras.attacks import Attack, CompiledAttack, objective, pgd
from rdi_keras.inference import EntropyPolicy, entropy
from rdi_keras.models import MultiExitModel, backbone

BATCH, STEPS, ROUNDS = 32, 20, 1


class Whole:
    """Every exit is computed in every forward pass; the loss of exit k goes back through exit k alone."""

    def __init__(self, model: MultiExitModel):
        self.model = model
        self.num_exits, self.num_classes = model.num_exits, model.num_classes

    def logits(self, images: tf.Tensor, up_to: int | None = None) -> list[tf.Tensor]:
        """Logits of exits 1 … `up_to`, tied to those of all others by a term that is 0."""
        logits = self.model.logits(images)
        rest = tf.stop_gradient(tf.add_n([tf.reduce_mean(each, axis=-1, keepdims=True) for each in logits]))
        return [each + 0.0 * rest for each in logits[:up_to]]


def main() -> None:
    """Times all ways interleaved and prints the ratios of the medians."""
    keras.utils.set_random_seed(0)
    model = MultiExitModel.from_backbone(backbone("resnet38", (32, 32, 3), 10))
    images = np.random.default_rng(0).uniform(0, 1, (BATCH, 32, 32, 3)).astype(np.float32)
    logits = model.logits(images)
    model.thresholds.assign([np.median(entropy(each)) for each in logits[:-1]])  # Samples leave everywhere.
    # The answer as it stands, and a tiny ball: nobody is fooled, so everybody takes every step.
    labels = np.argmax(EntropyPolicy(model.thresholds).answer(logits)[0], axis=-1)
    ways = {
        "max_average": ("max_average", model),
        "max_average, whole forward": ("max_average", Whole(model)),
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
    for name, attack in ready.items():
        expected = BATCH * STEPS * len(attack.attack.runs(model)) * (ROUNDS + 1)
        if attack.backward < 0.95 * expected:
            raise RuntimeError(f"{name} should take {expected} steps. Received: {attack.backward}")
    median = {name: statistics.median(each) for name, each in seconds.items()}
    for name, each in median.items():
        print(f"{name}: {each:.2f} s")
    whole = model.num_exits * median["average"]
    print(f"max_average / the whole network for every exit: {median['max_average'] / whole:.2f}")
    forward = median["max_average, whole forward"]
    print(f"max_average / every exit in every forward pass: {median['max_average'] / forward:.2f}")
    print(f"exit_aware / average: {median['exit_aware'] / median['average']:.2f}")


if __name__ == "__main__":
    main()
