"""One table for the edge: what float32, float16 and int8 LiteRT files cost and keep, beside TensorFlow.

    python benchmarks/edge.py runs/digits
    python benchmarks/edge.py runs/digits --part calibration    # without looking at the test part

The attacks of the `quick` suite are made on the run's float model and its thresholds, and handed to every
row: ATA is the share of samples that are right clean and under each of them. On the LiteRT rows they are
transferred attacks, so that ATA there is no worst case. Training images set the ranges of the int8 numbers.
Latency is that of one image a call, one thread, all rows interleaved: the median over the rounds of the mean
over the images.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import numpy as np

from rdi_keras.attacks import CompiledAttack
from rdi_keras.cli.options import load_config
from rdi_keras.data import Split
from rdi_keras.evaluation import suite
from rdi_keras.metadata import Metadata
from rdi_keras.runs import CONFIG_FILE, RunFolder
from rdi_keras.serving import LiteRTRunner, Predictor, export_litert, export_saved_model
from rdi_keras.serving.litert import KINDS
from rdi_keras.training import load_data

SUITE, BATCH, ROUNDS, TIMED_IMAGES = "quick", 256, 5, 100
COLUMNS = ("accuracy, %", "ATA, %", "mean MACs", "same answer, %", "size, kB", "ms per image")


def attacked(model, split: Split, thresholds: np.ndarray, epsilon: float) -> list[np.ndarray]:
    """The images as every attack of the suite leaves them."""
    found = []
    for entry in suite(SUITE, epsilon):
        attack = CompiledAttack(entry.attack, model)
        batches = [split.take(slice(start, start + BATCH)) for start in range(0, len(split), BATCH)]
        found.append(
            np.concatenate([attack(each.images, each.labels, thresholds).numpy() for each in batches])
        )
    return found


def saved_model_size(folder: Path) -> int:
    """Bytes of graph and weights; what else lies in a version folder is not counted."""
    return sum(file.stat().st_size for file in [folder / "saved_model.pb", *folder.glob("variables/*")])


def latencies(engines: dict, images: np.ndarray) -> dict[str, float]:
    """Milliseconds per image, by engine."""
    found = {name: [] for name in engines}
    for round_number in range(ROUNDS + 1):  # The first round compiles and does not count.
        for name, engine in engines.items():
            start = time.perf_counter()
            for image in images:
                engine.predict(image[None])
            if round_number:
                found[name].append(1000 * (time.perf_counter() - start) / len(images))
    return {name: statistics.median(each) for name, each in found.items()}


def main() -> None:
    """Exports, attacks, measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run folder, runs/<name>")
    parser.add_argument("--part", choices=("test", "calibration"), default="test")
    parser.add_argument("--limit", type=int, help="only the first so many images")
    arguments = parser.parse_args()
    run = RunFolder.open(arguments.run)
    metadata, model = Metadata.read(run.path), run.load_model()
    dataset = load_data(load_config((run.path / CONFIG_FILE).read_text()))
    split = getattr(dataset, arguments.part).first(arguments.limit)
    if arguments.part == "test":
        run.count_test_evaluation(metadata.model_digest, f"edge, {SUITE}")
    thresholds = model.thresholds.numpy()
    adversarial = attacked(model, split, thresholds, metadata.epsilon_value)

    with tempfile.TemporaryDirectory() as root:
        version = export_saved_model(model, metadata, Path(root, "saved"))
        engines = {"TensorFlow, SavedModel": Predictor(version, engine="tensorflow")}
        sizes = {"TensorFlow, SavedModel": saved_model_size(version)}
        for kind in KINDS:
            folder = export_litert(model, metadata, Path(root, kind), kind, dataset.train.images)
            engines[f"LiteRT {kind}"] = runner = LiteRTRunner(folder)
            sizes[f"LiteRT {kind}"] = runner.size
        times = latencies(engines, split.images[:TIMED_IMAGES])

        attacks = ", ".join(entry.name for entry in suite(SUITE, metadata.epsilon_value))
        print(f"\n{metadata.dataset}, {arguments.part} part, {len(split)} images, ε = {metadata.epsilon}")
        print(f"attacks: {attacks}\n")
        print(f"| | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
        reference = next(iter(engines.values())).predict(split.images).label
        for name, engine in engines.items():
            clean = engine.predict(split.images)
            right = clean.label == split.labels
            robust = right & np.all(
                [engine.predict(each).label == split.labels for each in adversarial], axis=0
            )
            cells = (
                f"{100 * right.mean():.1f}",
                f"{100 * robust.mean():.1f}",
                f"{clean.macs.mean():,.0f}",
                f"{100 * np.mean(clean.label == reference):.1f}",
                f"{sizes[name] / 1000:,.0f}",
                f"{times[name]:.3f}",
            )
            print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
