"""How long training takes: every defence × backbone, against plain training, in one process.

    python benchmarks/training.py
    python benchmarks/training.py --backbones resnet20 --defences none,average --steps 5

Prints images per second, how many times the time of plain training that is, and which share of a step is
spent waiting for the input pipeline. Random images: training does not mind what it sees.
"""

import argparse
import time

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from rdi_keras.data import Dataset, Split
from rdi_keras.data.pipeline import TrainingBatches
from rdi_keras.presets import Config
from rdi_keras.presets.defences import DEFENCES, with_defence
from rdi_keras.training import build_model
from rdi_keras.training.precision import in_precision

SHAPES = {"small_cnn": (28, 28, 1)}
CIFAR = (32, 32, 3)


def main() -> None:
    """Times every defence on every backbone and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--backbones", default="small_cnn,resnet20")
    parser.add_argument("--defences", default=",".join(DEFENCES))
    parser.add_argument("--steps", type=int, default=5, help="timed, after one that compiles")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--attack_steps", type=int, default=7)
    parser.add_argument("--heads", default="paper")
    parser.add_argument("--precisions", default="float32", help="float32,bfloat16")
    arguments = parser.parse_args()
    table = Table("backbone", "defence", "precision", "images/s", "times plain", "input, % of a step")
    for backbone in arguments.backbones.split(","):
        plain = None
        for defence in arguments.defences.split(","):
            for precision in arguments.precisions.split(","):
                seconds, waiting = measure(backbone, defence, precision, arguments)
                plain = plain or seconds
                table.add_row(
                    backbone,
                    defence,
                    precision,
                    f"{arguments.batch_size / seconds:.0f}",
                    f"{seconds / plain:.2f}",
                    f"{100 * waiting / seconds:.2f}",
                )
    Console().print(table)
    print(f"PGD steps: {arguments.attack_steps}; plain training is the first defence and precision named")


def measure(
    backbone: str, defence: str, precision: str, arguments: argparse.Namespace
) -> tuple[float, float]:
    """Median seconds of a training step, and of fetching a batch."""
    config = Config()
    config.model.backbone, config.model.heads = backbone, arguments.heads
    config.training.batch_size = arguments.batch_size
    config.training.attack.num_steps = arguments.attack_steps
    config = with_defence(config, defence)
    random = np.random.default_rng(0)
    count = arguments.batch_size * (arguments.steps + 1)
    images = random.uniform(size=(count, *SHAPES.get(backbone, CIFAR))).astype(np.float32)
    split = Split(images, random.integers(0, 10, count))
    dataset = Dataset("random", tuple("0123456789"), split, split, split)
    model = build_model(config, dataset)
    step = in_precision(
        precision, tf.function(lambda images, labels: model.train_step((images, labels)), autograph=False)
    )
    batches = TrainingBatches(split, arguments.batch_size, seed=0, pad_crop=4, flip=True)
    step(*next(iter(batches.epoch(0))))
    times, waits = [], []
    before = time.perf_counter()
    for batch in batches.epoch(1):
        fetched = time.perf_counter()
        float(step(*batch)["loss"])
        after = time.perf_counter()
        times.append(after - before)
        waits.append(fetched - before)
        before = after
    # The first batch also waits for the pipeline to start.
    return float(np.median(times[1:])), float(np.median(waits[1:]))


if __name__ == "__main__":
    main()
