"""How the digits recipe was chosen: cross-validation inside the training and calibration data.

    python benchmarks/recipes.py

Every recipe is trained on four fifths of these data and attacked on the held-out fifth, on which its
thresholds are set too; the test part is not read. Writes docs/results/digits_recipes.md.
"""

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
from rdi_keras.presets import preset

RESULT = Path(__file__).parents[1] / "docs" / "results" / "digits_recipes.md"
FOLDS = range(2)
PARTS = 5
SUITE = "quick"
# (training attack, λ, side exits), otherwise as the preset.
RECIPES = [
    ("main", 0.5, True),
    ("main", 1.0, True),
    ("exit_aware", 1.0, True),
    ("average", 1.0, True),
    ("average", 0.75, True),
    ("main", 1.0, False),
    ("average", 0.75, False),
]


def fold_of(dataset: Dataset, fold: int) -> Dataset:
    """Training and calibration data together, split anew; the test part is dropped."""
    pool = Split(
        np.concatenate([dataset.calibration.images, dataset.train.images]),
        np.concatenate([dataset.calibration.labels, dataset.train.labels]),
    )
    held_out = np.arange(len(pool)) % PARTS == fold
    held = pool.take(held_out)
    return replace(dataset, train=pool.take(~held_out), calibration=held, test=held)


def measure(objective: str, adversarial_weight: float, side_exits: bool) -> np.ndarray:
    """TA, worst case and clean saving in %, mean over the folds."""
    config = preset("digits")
    config.training.attack.objective = objective
    config.training.adversarial_weight = adversarial_weight
    rows = []
    for fold in FOLDS:
        config.seed = fold
        dataset = fold_of(training.load_data(config), fold)
        model = training.build_model(config, dataset, side_exits)
        training.fit_model(model, config, dataset)
        attacks = suite(SUITE, parse_epsilon(config.epsilon))
        outcomes = run_suite(model, model.thresholds.numpy(), dataset.calibration, attacks).outcomes
        summary = {name: each.summary(cost_table(model)) for name, each in outcomes.items()}
        rows.append(
            [summary["clean"]["accuracy"], summary["worst_case"]["accuracy"], summary["clean"]["saving"]]
        )
    return 100 * np.mean(rows, axis=0)


def main() -> None:
    """Measures all recipes and writes the table."""
    lines = [
        "# Choosing the digits recipe",
        "",
        f"Made by `python benchmarks/recipes.py`: mean of {len(FOLDS)} of {PARTS} folds of the training and "
        f"calibration data, suite `{SUITE}`, ε = 0.1. The test part is not read. Thresholds are set on the "
        "fold that is measured, so these figures choose between recipes and are no result.",
        "",
        "| training attack | λ | exits | TA, % | worst case, % | clean saving, % |",
        "|---|---|---|---|---|---|",
    ]
    for objective, weight, side_exits in RECIPES:
        accuracy, worst, saving = measure(objective, weight, side_exits)
        exits = "three" if side_exits else "one (twin)"
        lines.append(f"| {objective} | {weight} | {exits} | {accuracy:.1f} | {worst:.1f} | {saving:.1f} |")
        print(lines[-1], flush=True)
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
