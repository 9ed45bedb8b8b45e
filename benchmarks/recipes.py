"""How the digits recipe was chosen: cross-validation inside the training and calibration data.

    python benchmarks/recipes.py

Every recipe is trained on four fifths of these data and attacked on the held-out fifth, on which its
thresholds are set too; the test part is not read. Writes docs/results/digits_recipes.md.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from rdi_keras import training
from rdi_keras.data import Dataset, Split
from rdi_keras.evaluation import run_suite, suite
from rdi_keras.inference import cost_table
from rdi_keras.names import parse_epsilon
from rdi_keras.presets import Config, preset
from rdi_keras.presets.defences import with_defence

RESULT = Path(__file__).parents[1] / "docs" / "results" / "digits_recipes.md"
PARTS = 5
SUITE = "quick"


def _mix(objective: str, weight: float) -> Config:
    config = preset("digits")
    config.training.attack.objective, config.training.adversarial_weight = objective, weight
    return config


def _trades(beta: float) -> Config:
    config = with_defence(preset("digits"), "trades")
    config.training.beta = beta
    return config


# Recipe, and whether it has side exits; otherwise as the preset.
RECIPES = {
    "main, λ = 0.5": (_mix("main", 0.5), True),
    "main, λ = 1": (_mix("main", 1.0), True),
    "exit_aware, λ = 1": (_mix("exit_aware", 1.0), True),
    "average, λ = 1": (_mix("average", 1.0), True),
    "average, λ = 0.75": (_mix("average", 0.75), True),
    "trades, β = 2": (_trades(2.0), True),
    "trades, β = 4": (_trades(4.0), True),
    "trades, β = 6": (_trades(6.0), True),
    "main, λ = 1, twin": (_mix("main", 1.0), False),
    "average, λ = 0.75, twin": (_mix("average", 0.75), False),
    "trades, β = 6, twin": (_trades(6.0), False),
}


def fold_of(dataset: Dataset, fold: int) -> Dataset:
    """Training and calibration data together, split anew; the test part is dropped."""
    pool = Split(
        np.concatenate([dataset.calibration.images, dataset.train.images]),
        np.concatenate([dataset.calibration.labels, dataset.train.labels]),
    )
    held_out = np.arange(len(pool)) % PARTS == fold
    held = pool.take(held_out)
    return replace(dataset, train=pool.take(~held_out), calibration=held, test=held)


def measure(config: Config, side_exits: bool, folds: int) -> np.ndarray:
    """TA, worst case, clean and worst-case saving in %, mean over the folds."""
    rows = []
    for fold in range(folds):
        config.seed = fold
        dataset = fold_of(training.load_data(config), fold)
        model = training.build_model(config, dataset, side_exits)
        training.fit_model(model, config, dataset)
        attacks = [*suite(SUITE, parse_epsilon(config.epsilon)), suite("standard", 0.1)[-1]]
        outcomes = run_suite(model, model.thresholds.numpy(), dataset.calibration, attacks).outcomes
        clean, worst = (outcomes[each].summary(cost_table(model)) for each in ("clean", "worst_case"))
        rows.append([clean["accuracy"], worst["accuracy"], clean["saving"], worst["saving"]])
    return 100 * np.mean(rows, axis=0)


def main() -> None:
    """Measures all recipes and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=2, help=f"of {PARTS} that are measured")
    folds = parser.parse_args().folds
    lines = [
        "# Choosing the digits recipe",
        "",
        f"Made by `python benchmarks/recipes.py --folds {folds}`: mean of {folds} of {PARTS} folds of the "
        f"training and calibration data, suite `{SUITE}` and `slowdown`, ε = 0.1. The test part is not read. "
        "Thresholds are set on the fold that is measured, so these figures choose between recipes and are no "
        "result.",
        "",
        "| recipe | TA, % | worst case, % | saved clean, % | saved, worst case, % |",
        "|---|---|---|---|---|",
    ]
    for name, (config, side_exits) in RECIPES.items():
        figures = " | ".join(f"{each:.1f}" for each in measure(config, side_exits, folds))
        lines.append(f"| {name} | {figures} |")
        print(lines[-1], flush=True)
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
