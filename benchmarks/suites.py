"""How much more the `full` suite breaks than `standard`, and how long `standard` takes.

    python benchmarks/suites.py RUN [RUN …] --samples 200 --part calibration

RUN is a run folder, an exported model, or a `.keras` file of a run folder, such as its twin. `full` begins
with `standard`, with the same seeds: the figure is what the rest of `full` breaks of what `standard` left
standing. Calibration data, by default: attacks are chosen by what comes out here.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from rdi_keras import Predictor, data
from rdi_keras.evaluation import run_suite, suite, wilson
from rdi_keras.metadata import Metadata
from rdi_keras.model_files import load_model


def main() -> None:
    """Prints a Markdown table with a row per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--part", choices=["calibration", "test"], default="calibration")
    parser.add_argument("--suite", choices=["standard", "full"], default="full")
    arguments = parser.parse_args()
    print("| model | samples | clean | standard | minutes | passes | full | gained |")
    print("|---|---|---|---|---|---|---|---|")
    for path in arguments.models:
        network = load_model(Path(path)) if path.endswith(".keras") else Predictor(path)
        metadata = Metadata.read(Path(path).parent if path.endswith(".keras") else network.path)
        samples = getattr(data.load(metadata.dataset), arguments.part).first(arguments.samples)
        entries = suite(arguments.suite, metadata.epsilon_value)
        num_standard = len(suite("standard", metadata.epsilon_value))
        start, ended = time.perf_counter(), {}

        def note(condition: str, size: int, start=start, ended=ended) -> None:
            ended[condition] = time.perf_counter() - start

        thresholds = np.asarray(network.thresholds)
        conditions = run_suite(network, thresholds, samples, entries, on_batch=note)
        standing = samples.labels >= 0
        accuracy = [conditions.outcomes["clean"].correct.mean()]
        for number, entry in enumerate(entries, start=1):
            standing = standing & conditions.outcomes[entry.name].correct
            if number in (num_standard, len(entries)):
                accuracy.append((standing & conditions.outcomes["clean"].correct).mean())
        minutes = max(ended.get(entry.name, 0) for entry in entries[:num_standard]) / 60
        passes = sum(sum(conditions.passes[entry.name]) for entry in entries[:num_standard])
        low, high = wilson(round(float(accuracy[1]) * len(samples)), len(samples))
        full = f"{100 * accuracy[-1]:.1f} | {100 * (accuracy[1] - accuracy[-1]):.1f}"
        print(
            f"| {path} | {len(samples)} | {100 * accuracy[0]:.1f} | {100 * accuracy[1]:.1f} "
            f"[{100 * low:.1f}–{100 * high:.1f}] | {minutes:.1f} | {passes:,} | {full} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
