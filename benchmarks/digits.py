"""The digits preset over several seeds: the report's headline figures and their mean.

    python benchmarks/digits.py --seeds 3

Trains model and twin for every seed (some minutes each on 2 cores), attacks both with the
`standard` suite, and writes docs/results/digits.md. Nothing is chosen by what comes out here.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from rdi_keras.cli.fit import fit
from rdi_keras.evaluation import read_report
from rdi_keras.metadata import Metadata
from rdi_keras.presets import preset

RESULT = Path(__file__).parents[1] / "docs" / "results" / "digits.md"
FIGURES = {
    "TA": lambda report: report["conditions"]["clean"]["accuracy"],
    "worst case": lambda report: report["conditions"]["worst_case"]["accuracy"],
    "clean saving": lambda report: report["conditions"]["clean"]["saving"],
    "worst-case saving": lambda report: report["conditions"]["worst_case"]["saving"],
    "twin's TA": lambda report: report["baseline"]["conditions"]["clean"]["accuracy"],
    "twin's worst case": lambda report: report["baseline"]["conditions"]["worst_case"]["accuracy"],
}


def report_of(seed: int, folder: str) -> dict:
    """Trains with this seed and returns the report."""
    config = preset("digits")
    config.seed, config.name = seed, f"seed-{seed}"
    config.runs_dir = config.saved_models_dir = folder
    version = fit(config)
    return read_report(version, Metadata.read(version))


def main() -> None:
    """Runs all seeds and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    with tempfile.TemporaryDirectory() as folder:
        reports = [report_of(seed, folder) for seed in seeds]
    first = reports[0]
    lines = [
        "# Digits, several seeds",
        "",
        f"Made by `python benchmarks/digits.py --seeds {len(seeds)}`: preset `digits`, {first['dataset']} "
        f"{first['split']}, L∞ ε = {first['epsilon_text']}, suite `{first['suite']}`, cumulative MACs. "
        "The twin is the same backbone with its last exit only, trained and attacked alike. "
        "The recipe was chosen without the test part, on folds of the training data (digits_recipes.md is "
        "such a comparison), and nothing was chosen by these figures. They are not the first look at these "
        "images: the same recipe had been measured on them before, in an earlier run of this benchmark and "
        "in single runs.",
        "",
        f"| figure, % | mean | {' | '.join(f'seed {seed}' for seed in seeds)} |",
        f"|{'---|' * (len(seeds) + 2)}",
    ]
    for name, read in FIGURES.items():
        values = [100 * read(report) for report in reports]
        lines.append(f"| {name} | {np.mean(values):.1f} | {' | '.join(f'{each:.1f}' for each in values)} |")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
