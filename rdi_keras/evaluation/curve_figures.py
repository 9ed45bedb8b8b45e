"""Curves as PNG figures, beside one interactive page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdi_keras.evaluation.cascade import CLEAN
from rdi_keras.evaluation.curve_page import curve_page
from rdi_keras.evaluation.curve_style import (
    ACCURACY,
    FRONT_TITLE,
    GREY,
    SAVING,
    STYLES,
    TITLES,
    X_LABELS,
    bounds,
    caption,
    errors,
    marks,
    percents,
    places_of,
    shared_place,
    tick,
)
from rdi_keras.evaluation.curves import CONDITIONS, EPSILON, NUM_STEPS, THRESHOLD_SCALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE_FILES = {
    EPSILON: "curve_epsilon.png",
    NUM_STEPS: "curve_num_steps.png",
    THRESHOLD_SCALE: "curve_threshold_scale.png",
}
FRONT_FILE = "front.png"
PAGE_FILE = "curves.html"


def write_curve_figures(curves: dict, title: str, folder: Path) -> list[str]:
    """Writes the curves as figures and as an interactive page.

    Bars and bands are the 95 % intervals of the accuracies. A network with one exit has neither a
    threshold curve nor a front.

    Args:
        curves: of `measure_curves`.
        title: what was measured; plain text.
        folder: where to.

    Returns:
        The files' names: the PNGs, as `curve_figure_names`, then `PAGE_FILE`.
    """
    from matplotlib.figure import Figure

    heading = "\n".join([title, *caption(curves)])
    for curve, lines in curves["against"].items():
        figure = Figure(figsize=(8, 6), layout="constrained")
        figure.suptitle(heading, fontsize=9)
        _draw_curve(figure.subplots(2, sharex=True), curve, lines, curves)
        figure.savefig(folder / CURVE_FILES[curve], dpi=120)
    if THRESHOLD_SCALE in curves["against"]:
        figure = Figure(figsize=(8, 5.5), layout="constrained")
        figure.suptitle(heading, fontsize=9)
        _draw_front(figure.subplots(), curves["against"][THRESHOLD_SCALE])
        figure.savefig(folder / FRONT_FILE, dpi=120)
    (folder / PAGE_FILE).write_text(curve_page(curves, title), encoding="utf-8")
    return [*curve_figure_names(curves), PAGE_FILE]


def curve_figure_names(curves: dict) -> list[str]:
    """The file names of the figures that show these curves."""
    names = [CURVE_FILES[curve] for curve in curves["against"]]
    return [*names, FRONT_FILE] if THRESHOLD_SCALE in curves["against"] else names


def _draw_curve(panels: list["Axes"], curve: str, lines: dict, curves: dict) -> None:
    top, bottom = panels
    for condition in CONDITIONS:
        points, style = lines[condition], STYLES[condition]
        places = places_of(curve, points)
        look: dict[str, Any] = {"color": style.color, "marker": style.marker[0], "linestyle": style.line[0]}
        top.fill_between(places, *bounds(points), color=style.color, alpha=0.18, linewidth=0)
        top.plot(places, percents(points, "accuracy"), label=style.label, **look)
        bottom.plot(places, percents(points, "saving"), label=style.label, **look)
    points = lines[CLEAN]
    for panel in panels:
        panel.axvline(shared_place(curve, points, curves), color=GREY, linestyle=":", linewidth=1)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    bottom.axhline(0, color=GREY, linewidth=0.8)
    top.set(title=TITLES[curve], ylabel=ACCURACY, ylim=(-2, 102))
    bottom.set(xlabel=X_LABELS[curve], ylabel=f"{SAVING.split(', ')[0]},\n{SAVING.split(', ')[1]}")
    if curve != EPSILON:
        bottom.set_xticks(places_of(curve, points), [tick(each["x"]) for each in points])
    top.legend(frameon=False)


def _draw_front(axes: "Axes", lines: dict) -> None:
    for condition in CONDITIONS:
        points, style = lines[condition], STYLES[condition]
        axes.errorbar(
            percents(points, "saving"),
            percents(points, "accuracy"),
            errors(points),
            color=style.color,
            marker=style.marker[0],
            linestyle=style.line[0],
            capsize=3,
            elinewidth=1,
            label=style.label,
        )
        for mark in marks(points):
            axes.annotate(
                mark.text,
                (mark.saving, mark.top),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=style.color,
            )
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(
        title=f"{FRONT_TITLE} (× scale of the thresholds)", xlabel=SAVING, ylabel=ACCURACY, ylim=(-2, 112)
    )
    axes.legend(frameon=False, loc="lower left")
