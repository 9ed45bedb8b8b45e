"""Draws the exits as a line of stages, as HTML; a sample travels along it to the exit that answers."""

import html
import math

from app.decision import ANSWERS, NOT_REACHED, PASSED, Decision, ExitView, percent

# Half-transparent greys suit the light and the dark theme alike.
STYLE = """
<style>
ol.stages {display: flex; flex-wrap: wrap; gap: 8px; list-style: none; margin: 0 !important;
  padding: 0 !important; font-size: 14px; line-height: 1.4}
.stages li {flex: 1 1 150px; margin: 0 !important; padding: 10px 12px;
  border: 1px solid rgba(128,128,128,.45); border-radius: 8px; box-sizing: border-box}
.stages li.answers {border: 3px solid #0b8a5f; background: rgba(11,138,95,.13); padding: 8px 10px}
.stages li.later {border-style: dashed; opacity: .75}
.stages .answer {font-size: 20px; font-weight: 600; overflow-wrap: anywhere}
.stages .bar {position: relative; height: 8px; margin: 8px 0; border-radius: 4px;
  background: rgba(128,128,128,.25)}
.stages .fill {height: 8px; border-radius: 4px; background: #5b7fb5}
.stages .top {display: flex; justify-content: space-between; gap: 8px; padding: 1px 6px; margin: 2px 0;
  border-radius: 4px; overflow-wrap: anywhere}
.stages .tick {position: absolute; top: -3px; width: 2px; height: 14px; background: currentColor}
.track {position: relative; height: 22px; margin: 4px 11px 10px}
.track .line {position: absolute; top: 10px; left: 0; right: 0; border-top: 2px dashed rgba(128,128,128,.5)}
.track .way {position: absolute; top: 9px; left: 0; height: 4px; border-radius: 2px; background: #0b8a5f;
  animation: way 1.2s ease-out}
.track .stop {position: absolute; top: 5px; width: 12px; height: 12px; margin-left: -6px; border-radius: 6px;
  background: #8a8a8a}
.track .sample {position: absolute; top: 0; width: 22px; height: 22px; margin-left: -11px; border-radius: 6px;
  border: 3px solid #0b8a5f; box-sizing: border-box; background-size: cover; image-rendering: pixelated;
  background-color: #0b8a5f; animation: travel 1.2s ease-out}
@keyframes travel {from {left: 0}}
@keyframes way {from {width: 0}}
@media (prefers-reduced-motion: reduce) {.track .sample, .track .way {animation: none}}
</style>
"""
LEAST = 1e-6  # Nats at the left end of the bars, which are logarithmic: thresholds may be small.
STATES = {PASSED: "not sure, goes on", ANSWERS: "answers here", NOT_REACHED: "not reached: saved"}
CLASSES = {PASSED: "passed", ANSWERS: "answers", NOT_REACHED: "later"}


def stages_html(decision: Decision, picture: str = "") -> str:
    """A line along which the sample travels, then an ordered list with one box per exit.

    Args:
        decision: where it leaves.
        picture: of the sample, as a data address of `images.data_address`.
    """
    boxes = "".join(_box(each, decision) for each in decision.exits)
    return f'{STYLE}{_track(decision, picture)}<ol class="stages">{boxes}</ol>'


def entropy_text(view: ExitView) -> str:
    """An exit's entropy against its threshold, e.g. `entropy 0.31 < 1.82`."""
    if view.threshold is None:
        return f"entropy {view.entropy:.2g}, no threshold: always answers"
    sign = "<" if view.entropy < view.threshold else "≥"
    # More digits where two would show two equal numbers.
    digits = 2 if f"{view.entropy:.2g}" != f"{view.threshold:.2g}" else 6
    return f"entropy {view.entropy:.{digits}g} {sign} {view.threshold:.{digits}g}"


def _box(view: ExitView, decision: Decision) -> str:
    would = "would say " if view.state == NOT_REACHED else ""
    lines = [
        f"<div><b>Exit {view.number}</b>: {STATES[view.state]}</div>",
        f'<div class="answer">{would}{html.escape(view.answer)}</div>',
        *map(_top, view.top),
        _bar(view, decision.max_entropy),
        f"<div>{html.escape(entropy_text(view))}</div>",
        f"<div>{view.macs:,} MACs, {percent(view.macs / decision.macs_backbone)} of the backbone</div>",
    ]
    return f'<li class="{CLASSES[view.state]}">{"".join(lines)}</li>'


def _track(decision: Decision, picture: str) -> str:
    """Decoration: the list says the same in words."""
    count = len(decision.exits)

    def place(number: int) -> str:
        return f"{100 * number / count:.2f}%"

    stops = "".join(
        f'<span class="stop" style="left:{place(each.number)}"></span>' for each in decision.exits
    )
    end = place(decision.exit)
    image = f"background-image:url({picture})" if picture else ""
    return (
        f'<div class="track" aria-hidden="true"><span class="line"></span>'
        f'<span class="way" style="width:{end}"></span>{stops}'
        f'<span class="sample" style="left:{end};{image}"></span></div>'
    )


def _top(shown: tuple[str, float]) -> str:
    name, probability = shown
    filled = f"{100 * probability:.1f}%"
    style = f"background:linear-gradient(90deg,rgba(91,127,181,.35) {filled},rgba(128,128,128,.1) {filled})"
    texts = f"<span>{html.escape(name)}</span><span>{percent(probability)}</span>"
    return f'<div class="top" style="{style}">{texts}</div>'


def _bar(view: ExitView, max_entropy: float) -> str:
    def position(value: float) -> float:
        decades = (
            math.log10(max(value, LEAST) / LEAST) / math.log10(max_entropy / LEAST) if max_entropy else 0
        )
        return 100 * min(decades, 1)

    tick = (
        ""
        if view.threshold is None
        else f'<div class="tick" style="left:{position(view.threshold):.1f}%"></div>'
    )
    fill = f'<div class="fill" style="width:{position(view.entropy):.1f}%"></div>'
    return f'<div class="bar" aria-hidden="true">{fill}{tick}</div>'
