"""Every model that ships has a card, and its card says what its report says."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = sorted({path.parents[1] for path in (ROOT / "saved_models").glob("*/1/report.json")})
SECTIONS = ("Intended use", "Data", "Training", "Figures", "Limits")


def shipped() -> list[Path]:
    """Folders of models that are tracked by git; without git, all that are there."""
    listed = subprocess.run(
        ["git", "ls-files", "saved_models/*/1/report.json"], cwd=ROOT, capture_output=True, text=True
    )
    names = {line.split("/")[1] for line in listed.stdout.splitlines()}
    return [folder for folder in SHIPPED if not names or folder.name in names]


def test_models_ship():
    assert {"digits", "mnist", "fashion_mnist", "cifar10"} <= {each.name for each in shipped()}


@pytest.mark.parametrize("folder", shipped(), ids=lambda path: path.name)
def test_a_model_that_ships_has_a_card_with_the_figures_of_its_report(folder):
    card = (folder / "README.md").read_text()
    report = json.loads((folder / "1" / "report.json").read_text())
    conditions, twin = report["conditions"], report["baseline"]["conditions"]
    assert [title for title in SECTIONS if f"## {title}" not in card] == []
    expected = {
        "accuracy (TA)": (conditions["clean"]["accuracy"], twin["clean"]["accuracy"]),
        "worst case": (conditions["worst_case"]["accuracy"], twin["worst_case"]["accuracy"]),
        "saved, clean": (conditions["clean"]["saving"],),
        "saved, worst case": (conditions["worst_case"]["saving"],),
    }
    for title, values in expected.items():
        (row,) = re.findall(rf"^\| {re.escape(title)} \|(.*)\|$", card, re.MULTILINE)
        figures = [float(each) for each in re.findall(r"(-?\d+\.\d) %", row)]
        assert figures == [round(100 * value, 1) for value in values], title
    assert f"{report['n']:,} " in card
    assert f"ε = {report['epsilon_text']}" in card
    assert report["model_digest"][:12] in card
    assert f"looked at {report['test_evaluations']} time" in card
