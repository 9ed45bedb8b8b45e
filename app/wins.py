"""The three wins as tables and figures: accuracy, robustness, compute, beside the twin's."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app import thresholds
from rdi_keras.evaluation.curve_page import interactive_figures
from rdi_keras.evaluation.curves import THRESHOLD_SCALE
from rdi_keras.evaluation.tables import HEADER, report_rows
from rdi_keras.names import exit_names

if TYPE_CHECKING:
    import plotly.graph_objects as go

CLEAN, WORST = "clean", "worst_case"
OURS, TWIN = "#0072B2", "#E69F00"
EXITS = ("#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00", "#CC79A7")
# Published figures of others on these data at this ε: name, clean and attacked accuracy in percent, by what.
PUBLISHED: dict[tuple[str, float], list[tuple[str, float | None, float, str]]] = {
    ("mnist", 0.3): [
        ("Gowal et al., 2020 (one exit)", 99.26, 96.34, "AutoAttack"),
        ("TRADES, Zhang et al., ICML 2019 (one exit)", 99.48, 92.81, "AutoAttack"),
        ("PGD training, Madry et al., ICLR 2018 (one exit)", 98.53, 88.50, "AutoAttack"),
        ("Fast-AT, Wong et al., ICLR 2020 (one exit)", 98.50, 82.93, "AutoAttack"),
    ],
    ("cifar10", 8 / 255): [
        ("RDI-ResNet-38, weights of Hu et al., ICLR 2020", None, 43.31, "PGD-20, max_average"),
        ("ResNet-20, as reported (one exit)", 78.91, 34.95, "AutoAttack"),
        ("Fast-AT, PreAct-ResNet-18, Wong et al., ICLR 2020 (one exit)", 83.34, 43.21, "AutoAttack"),
    ],
}


@dataclass(frozen=True)
class Point:
    """An operating point of the report's curves.

    Attributes:
        doublings: of all thresholds, as `app.thresholds.scaled` takes them.
        text: for a reader.
    """

    doublings: int
    text: str


def headline(report: dict) -> list[tuple[str, str, str]]:
    """Name, our value and the twin's, of the three wins and of what they cost under attack."""
    ours = report["conditions"]
    twin = (report["baseline"] or {}).get("conditions")

    def pair(name: str, condition: str, key: str) -> tuple[str, str, str]:
        other = f"twin: {_percent(twin[condition][key])}" if twin else "no twin"
        return name, _percent(ours[condition][key]), other

    return [
        pair("Accuracy (TA)", CLEAN, "accuracy"),
        pair("Robust, worst case", WORST, "accuracy"),
        pair("Compute saved", CLEAN, "saving"),
        pair("Saved in the worst case", WORST, "saving"),
    ]


def table(report: dict) -> list[dict[str, str]]:
    """The report's table, a dictionary per condition."""
    return [dict(zip(HEADER, row, strict=True)) for row in report_rows(report)]


def published(report: dict) -> list[dict[str, str]]:
    """What others published on these data at this ε, for orientation; their attacks are other ones."""
    rows = PUBLISHED.get((report["dataset"], report["epsilon"]), [])
    return [
        {
            "model": name,
            "clean %": "–" if clean is None else f"{clean:.1f}",
            "attacked %": f"{attacked:.1f}",
            "by": attack,
        }
        for name, clean, attacked, attack in rows
    ]


def accuracy_figure(report: dict) -> "go.Figure":
    """Accuracy under every condition, beside the twin's, with intervals."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    series = [("several exits", OURS, report["conditions"])]
    if report["baseline"]:
        series.append(("one-exit twin", TWIN, report["baseline"]["conditions"]))
    for name, colour, conditions in series:
        values = list(conditions.values())
        drawn.add_bar(
            name=name,
            x=list(conditions),
            y=[100 * each["accuracy"] for each in values],
            marker_color=colour,
            error_y={
                "type": "data",
                "array": [100 * max(each["interval"][1] - each["accuracy"], 0) for each in values],
                "arrayminus": [100 * max(each["accuracy"] - each["interval"][0], 0) for each in values],
            },
            hovertemplate="%{x}: %{y:.1f} %",
        )
    drawn.update_yaxes(title="accuracy, %", range=[0, 105])
    return _compact(drawn)


def exits_figure(report: dict) -> "go.Figure":
    """Where samples leave under every condition."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    for number, name in enumerate(exit_names(len(report["macs_per_exit"]))):
        drawn.add_bar(
            name=name.replace("_", " "),
            x=list(report["conditions"]),
            y=[100 * each["exit_shares"][number] for each in report["conditions"].values()],
            marker_color=EXITS[number % len(EXITS)],
            hovertemplate="%{x}: %{y:.1f} %",
        )
    drawn.update_yaxes(title="samples that leave there, %", range=[0, 100])
    return _compact(drawn).update_layout(barmode="stack")


def curve_figures(report: dict) -> dict[str, "go.Figure"]:
    """The report's curves and front, by title; empty where none were measured."""
    figures = interactive_figures(report["curves"]) if report["curves"] else {}
    return {heading: _compact(figure, figure.layout.height) for heading, figure in figures.items()}


def points(report: dict) -> list[Point]:
    """The operating points of the front that the sidebar can stand at, the latest first."""
    if not report["curves"]:
        return []
    lines = report["curves"]["against"].get(THRESHOLD_SCALE, {})
    found = []
    for clean, worst in zip(lines.get(CLEAN, []), lines.get(WORST, []), strict=False):
        doublings = _doublings(clean["x"])
        if doublings is not None:
            text = (
                f"{thresholds.scale_text(doublings)}: {_percent(clean['accuracy'])} clean, "
                f"{_percent(worst['accuracy'])} worst case, {_percent(clean['saving'])} saved"
            )
            found.append(Point(doublings, text))
    return found


def _doublings(scale: float | None) -> int | None:
    """A factor of the thresholds as a place of the sidebar's slider; `None` where it has no such place."""
    if scale is None:
        return thresholds.SOONEST
    if scale == 0:
        return thresholds.LATEST
    power = math.log2(scale)
    return round(power) if power == round(power) and abs(power) < thresholds.SOONEST else None


def _compact(drawn: "go.Figure", height: int = 360) -> "go.Figure":
    return drawn.update_layout(
        height=height,
        margin={"l": 70, "r": 10, "t": 30, "b": 40},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
