"""Draws the exits as a line of stages, as HTML; the exit that answered stands out."""

import html

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
.stages .tick {position: absolute; top: -3px; width: 2px; height: 14px; background: currentColor}
</style>
"""
STATES = {PASSED: "not sure, goes on", ANSWERS: "answers here", NOT_REACHED: "not reached, not run"}
CLASSES = {PASSED: "passed", ANSWERS: "answers", NOT_REACHED: "later"}


def stages_html(decision: Decision) -> str:
    """An ordered list with one box per exit; class names are escaped."""
    return f'{STYLE}<ol class="stages">{"".join(_box(each, decision) for each in decision.exits)}</ol>'


def entropy_text(view: ExitView) -> str:
    """An exit's entropy against its threshold, e.g. `entropy 0.31 < 1.82`."""
    if view.threshold is None:
        return f"entropy {view.entropy:.2f}, no threshold: always answers"
    sign = "<" if view.entropy < view.threshold else "≥"
    # More digits where two would show two equal numbers.
    digits = 2 if f"{view.entropy:.2f}" != f"{view.threshold:.2f}" else 5
    return f"entropy {view.entropy:.{digits}f} {sign} {view.threshold:.{digits}f}"


def _box(view: ExitView, decision: Decision) -> str:
    would = "would say " if view.state == NOT_REACHED else ""
    lines = [
        f"<div><b>Exit {view.number}</b>: {STATES[view.state]}</div>",
        f'<div class="answer">{would}{html.escape(view.answer)}</div>',
        f"<div>{percent(view.confidence)} sure</div>",
        _bar(view, decision.max_entropy),
        f"<div>{html.escape(entropy_text(view))}</div>",
        f"<div>{view.macs:,} MACs, {percent(view.macs / decision.macs_backbone)} of the backbone</div>",
    ]
    return f'<li class="{CLASSES[view.state]}">{"".join(lines)}</li>'


def _bar(view: ExitView, max_entropy: float) -> str:
    def position(value: float) -> float:
        return 100 * min(max(value / max_entropy, 0), 1) if max_entropy else 0

    tick = (
        ""
        if view.threshold is None
        else f'<div class="tick" style="left:{position(view.threshold):.1f}%"></div>'
    )
    fill = f'<div class="fill" style="width:{position(view.entropy):.1f}%"></div>'
    return f'<div class="bar" aria-hidden="true">{fill}{tick}</div>'
