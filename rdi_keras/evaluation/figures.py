"""A report as PNG figures."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rdi_keras.evaluation.curve_figures import (
    CURVE_FILES,
    FRONT_FILE,
    PAGE_FILE,
    curve_figure_names,
    write_curve_figures,
)
from rdi_keras.names import exit_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_figures(report: dict, folder: str | Path) -> list[str]:
    """Writes the report's figures into a folder, and with curves their interactive page beside them.

    Returns:
        The file names of the figures, as `figure_names`.
    """
    from matplotlib.figure import Figure

    for name, draw in FIGURES.items():
        figure = Figure(figsize=(8, 4), layout="constrained")
        draw(figure.subplots(), report)
        figure.savefig(Path(folder, name), dpi=120)
    if report["curves"]:
        write_curve_figures(
            report["curves"], f"{report['dataset']} {report['split'].partition('[')[0]}", Path(folder)
        )
    return figure_names(report)


def figure_names(report: dict) -> list[str]:
    """The file names of a report's figures."""
    return [*FIGURES, *(curve_figure_names(report["curves"]) if report["curves"] else [])]


def _accuracy(axes: "Axes", report: dict) -> None:
    conditions = report["conditions"]
    series = {"adaptive": conditions}
    if report["baseline"]:
        series["one-exit twin"] = report["baseline"]["conditions"]
    width = 0.8 / len(series)
    for index, (label, values) in enumerate(series.items()):
        positions = np.arange(len(conditions)) + (index - (len(series) - 1) / 2) * width
        heights = [100 * values[name]["accuracy"] for name in conditions]
        bars = axes.bar(positions, heights, width, label=label)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.set_xticks(range(len(conditions)), conditions, rotation=20)
    axes.set(ylim=(0, 109), ylabel="accuracy, %")
    axes.set_title(f"{report['dataset']}, L∞ ε = {report['epsilon_text']}, n = {report['n']}")
    axes.legend(loc="lower left")


def _exit_shares(axes: "Axes", report: dict) -> None:
    conditions = report["conditions"]
    start = np.zeros(len(conditions))
    for index, name in enumerate(exit_names(len(report["macs_per_exit"]))):
        shares = np.array([100 * each["exit_shares"][index] for each in conditions.values()])
        axes.barh(range(len(conditions)), shares, left=start, label=name)
        start += shares
    labels = [f"{name}\n{100 * each['saving']:+.0f} % MACs saved" for name, each in conditions.items()]
    axes.set_yticks(range(len(conditions)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="samples leaving at, %")
    axes.legend(loc="lower right")


FIGURES = {"accuracy.png": _accuracy, "exit_shares.png": _exit_shares}
"""The figures of every report: file names, and what draws them on axes."""
ALL_FIGURES = (*FIGURES, *CURVE_FILES.values(), FRONT_FILE, PAGE_FILE)
"""Every file that `write_figures` may write."""
