"""The curves as one interactive page that needs no network."""

import html
from typing import TYPE_CHECKING

from rdi_keras.evaluation.cascade import CLEAN
from rdi_keras.evaluation.curve_style import (
    ACCURACY,
    FRONT_TITLE,
    GREY,
    SAVING,
    STYLES,
    TITLES,
    X_LABELS,
    caption,
    errors,
    marks,
    percents,
    places_of,
    shared_place,
    tick,
    x_text,
)
from rdi_keras.evaluation.curves import CONDITIONS, EPSILON, THRESHOLD_SCALE

if TYPE_CHECKING:
    import plotly.graph_objects as go

WIDTH, PANEL_HEIGHT = 900, 300  # Of the figures, in CSS pixels.
# Out of the box there are a button that uploads the figure and a link to the maker's site.
CONFIG = {"displaylogo": False, "showSendToCloud": False, "responsive": True}


def curve_page(curves: dict, title: str) -> str:
    """Returns the page, HTML with plotly's script inside it: about 5 MB.

    Args:
        curves: of `measure_curves`.
        title: what was measured; plain text.
    """
    import plotly.graph_objects as go
    from plotly.offline import get_plotlyjs

    sections = []
    for number, (heading, figure) in enumerate(interactive_figures(curves).items(), start=1):
        # Not plotly's own template: several kilobytes of styles per figure, for kinds that are not here.
        figure.update_layout(
            template=go.layout.Template(),
            font={"family": "system-ui, sans-serif", "size": 13},
            margin={"l": 80, "r": 20, "t": 40, "b": 60},
            legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0},
            plot_bgcolor="white",
            hoverlabel={"bgcolor": "white"},
        )
        figure.update_xaxes(gridcolor="#e5e5e5", linecolor=GREY)
        figure.update_yaxes(gridcolor="#e5e5e5", linecolor=GREY)
        shown = figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=f"figure_{number}",  # Else drawn by chance, and no two pages would be alike.
            default_height=f"{figure.layout.height:.0f}px",
            config=CONFIG,
        )
        sections.append(f"<h2>{html.escape(heading)}</h2>\n{shown}")
    return PAGE.format(
        title=html.escape(title),
        caption=html.escape("; ".join(caption(curves))),
        width=WIDTH,
        script=get_plotlyjs(),
        sections="\n".join(sections),
    )


def interactive_figures(curves: dict) -> dict[str, "go.Figure"]:
    """The curves, and the front if there is one, by title; without colours of their own for text and grid."""
    against = curves["against"]
    figures = {TITLES[curve]: _curve_figure(curve, lines, curves) for curve, lines in against.items()}
    if THRESHOLD_SCALE in against:
        figures[FRONT_TITLE] = _front_figure(against[THRESHOLD_SCALE])
    return figures


def _hover(curve: str, condition: str, points: list[dict]) -> list[str]:
    return [
        f"<b>{STYLES[condition].label}</b>, {x_text(curve, each['x'])}<br>"
        f"accuracy {100 * each['accuracy']:.1f} % "
        f"({100 * each['interval'][0]:.1f} – {100 * each['interval'][1]:.1f} %)<br>"
        f"saving {100 * each['saving']:.1f} % of the backbone's MACs<br>n = {each['n']}"
        for each in points
    ]


def _trace(curve: str, condition: str, points: list[dict], x: list, y: str, legend: bool) -> "go.Scatter":
    import plotly.graph_objects as go

    style = STYLES[condition]
    below, above = errors(points)
    return go.Scatter(
        x=x,
        y=percents(points, y),
        error_y={"type": "data", "array": above, "arrayminus": below} if y == "accuracy" else None,
        name=style.label,
        legendgroup=condition,
        showlegend=legend,
        mode="lines+markers",
        marker={"symbol": style.marker[1], "size": 9, "color": style.color},
        line={"dash": style.line[1], "color": style.color},
        text=_hover(curve, condition, points),
        hovertemplate="%{text}<extra></extra>",
    )


def _curve_figure(curve: str, lines: dict, curves: dict) -> "go.Figure":
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    places = places_of(curve, lines[CLEAN])
    for row, key in enumerate(("accuracy", "saving"), start=1):
        for condition in CONDITIONS:
            trace = _trace(curve, condition, lines[condition], places, key, legend=row == 1)
            figure.add_trace(trace, row=row, col=1)
    figure.add_vline(
        shared_place(curve, lines[CLEAN], curves), line={"color": GREY, "dash": "dot", "width": 1}
    )
    figure.update_yaxes(title=ACCURACY, range=[-3, 103], zeroline=False, row=1)
    figure.update_yaxes(title=SAVING.replace(", ", ",<br>"), zerolinecolor=GREY, row=2)
    figure.update_xaxes(title=X_LABELS[curve], row=2)
    figure.update_xaxes(zeroline=False)
    if curve != EPSILON:
        ticks = [tick(each["x"]).replace("\n", "<br>") for each in lines[CLEAN]]
        figure.update_xaxes(tickvals=places, ticktext=ticks)
    return figure.update_layout(height=2 * PANEL_HEIGHT)


def _front_figure(lines: dict) -> "go.Figure":
    import plotly.graph_objects as go

    figure = go.Figure()
    for condition in CONDITIONS:
        points = lines[condition]
        saving = percents(points, "saving")
        figure.add_trace(_trace(THRESHOLD_SCALE, condition, points, saving, "accuracy", legend=True))
        for mark in marks(points):
            font = {"color": STYLES[condition].color, "size": 12}
            figure.add_annotation(
                x=mark.saving, y=mark.top, text=mark.text, showarrow=False, yshift=10, font=font
            )
    figure.update_xaxes(title=SAVING, zerolinecolor=GREY)
    figure.update_yaxes(title=ACCURACY, range=[-3, 112], zeroline=False)
    return figure.update_layout(height=1.6 * PANEL_HEIGHT)


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; }}
body {{ max-width: {width}px; margin: 2em auto; padding: 0 1em; }}
h1 {{ font-size: 1.4em; }}
h2 {{ font-size: 1.15em; margin: 2em 0 0; }}
</style>
<script>{script}</script>
</head>
<body>
<h1>{title}</h1>
<p>{caption}. Bars are the intervals of the accuracies. The dotted line is the point that all curves share.
Point at a mark to read its numbers.</p>
{sections}
</body>
</html>
"""
