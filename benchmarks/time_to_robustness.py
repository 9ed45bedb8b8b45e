"""How many minutes of training until a network holds under attack: the paper's recipe for MNIST against ours.

    python benchmarks/time_to_robustness.py
    python benchmarks/time_to_robustness.py --recipes ours --minutes 10

After every so many minutes of training the thresholds are calibrated and the `quick` suite is run on
calibration data, with the clock stopped, as it is while epochs are validated. A recipe ends when it reaches
the target, or its time is up; then "not reached" counts as that time. Where its schedule ends before both,
nothing follows, and no ratio is printed. Needs MNIST (TFDS_DATA_DIR). Nothing is
looked at of the test part.
"""

import argparse
import contextlib
import copy
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from rdi_keras.evaluation import run_suite, suite
from rdi_keras.presets import Config, preset
from rdi_keras.training import build_model, calibrate, fit_model, load_data


def paper() -> Config:
    """Hu et al. 2020 and their code: PGD-40, max-average, SGD, 13,100 steps of 256."""
    config = preset("mnist")
    training = config.training
    training.attack.objective, training.attack.num_steps, training.attack.step_size = (
        "max_average",
        40,
        "0.01",
    )
    training.attack.keep, training.adversarial_weight, training.precision = "best", 0.5, "float32"
    training.batch_size, training.epochs, training.optimizer = 256, 62, "sgd"
    training.learning_rate, training.weight_decay = 0.033, 5e-4
    training.schedule, training.milestones = "step", [0.893, 0.985]
    return config


def ours() -> Config:
    """The preset mnist with two attack steps on four fifths of every batch, and a shorter schedule."""
    config = preset("mnist")
    training = config.training
    training.loss, training.adversarial_weight, training.attack.num_steps = "split_mix", 0.8, 2
    training.epochs, training.learning_rate = 6, 2e-3
    return config


RECIPES = {"paper": paper, "ours": ours}


class EnoughError(Exception):
    """The target is reached, or the time is up."""


class Watch(keras.callbacks.Callback):
    """Measures robustness between steps, with the clock stopped."""

    def __init__(self, held_out, config: Config, arguments: argparse.Namespace):
        super().__init__()
        self.held_out, self.config, self.arguments = held_out, config, arguments
        self.minutes, self.reached = 0.0, False
        self._entries, self._loops = suite("quick", 0.3), {}
        self._since, self._next = time.perf_counter(), arguments.every

    def on_epoch_begin(self, epoch, logs=None):
        self._since = time.perf_counter()  # Validating the epoch before is no training.

    def on_train_batch_end(self, step, logs=None):
        now = time.perf_counter()
        self.minutes, self._since = self.minutes + (now - self._since) / 60, now
        if self.minutes < min(self._next, self.arguments.minutes):
            return
        self._measure()
        if self.reached or self.minutes >= self.arguments.minutes:
            raise EnoughError
        self._next += self.arguments.every
        self._since = time.perf_counter()

    def on_train_end(self, logs=None):
        self._measure()  # The schedule is over before the time is up.

    def _measure(self) -> None:
        accuracy = self._robust_accuracy()
        print(f"{self.minutes:.1f} minutes: {100 * accuracy:.1f} %", flush=True)
        self.reached = accuracy >= self.arguments.target

    def _robust_accuracy(self) -> float:
        calibrate(self.model, self.held_out, self.config.calibration)
        attacked = self.held_out.first(self.arguments.samples)
        thresholds = self.model.thresholds.numpy()
        outcomes = run_suite(self.model, thresholds, attacked, self._entries, loops=self._loops).outcomes
        return float(np.all([each.correct for each in outcomes.values()], axis=0).mean())


def main() -> None:
    """Trains by each recipe and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--minutes", type=float, default=60.0, help="a recipe's time")
    parser.add_argument("--every", type=float, default=1.0, help="minutes of training between measurements")
    parser.add_argument("--target", type=float, default=0.8, help="worst-case accuracy under `quick`")
    parser.add_argument("--samples", type=int, default=200, help="calibration images that are attacked")
    arguments = parser.parse_args()
    minutes, reached = {}, {}
    for name in arguments.recipes.split(","):
        config = RECIPES[name]()
        config.calibration = copy.deepcopy(preset("mnist").calibration)
        config.calibration.attacked = 0
        dataset = load_data(config)
        model = build_model(config, dataset)
        print(f"{name}:", flush=True)
        watch = Watch(dataset.calibration, config, arguments)
        with contextlib.suppress(EnoughError):
            fit_model(model, config, dataset, [watch])
        reached[name] = watch.reached
        minutes[name] = watch.minutes
        print(
            f"| {name} | {minutes[name]:.1f} | {'reached' if watch.reached else 'not reached'} |", flush=True
        )
    in_time = reached.get("paper") or minutes.get("paper", 0.0) >= arguments.minutes
    if reached.get("ours") and in_time:  # A schedule that ended early, unreached, bounds nothing.
        least = "" if reached["paper"] else "at least "
        print(f"ours is {least}{minutes['paper'] / minutes['ours']:.1f} × sooner")


if __name__ == "__main__":
    main()
