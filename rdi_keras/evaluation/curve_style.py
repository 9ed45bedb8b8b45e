"""What the curves' figures and their page share: words, colours, places."""

from dataclasses import dataclass

from rdi_keras.evaluation.cascade import CLEAN, WORST_CASE
from rdi_keras.evaluation.curves import EPSILON, NUM_STEPS, THRESHOLD_SCALE


@dataclass(frozen=True)
class Style:
    """How a condition is drawn. Colours: Okabe and Ito 2008; marks and lines tell them apart in grey too."""

    label: str
    color: str
    marker: tuple[str, str]  # as matplotlib and as plotly call it
    line: tuple[str, str]


STYLES = {
    CLEAN: Style("clean", "#0072B2", ("o", "circle"), ("-", "solid")),
    WORST_CASE: Style("under attack (worst case)", "#D55E00", ("s", "square"), ("--", "dash")),
}
X_LABELS = {
    EPSILON: "ε, pixel units (images lie in [0, 1])",
    NUM_STEPS: "steps of the attack",
    THRESHOLD_SCALE: "all thresholds times",
}
TITLES = {
    EPSILON: "How far the attacker may go",
    NUM_STEPS: "How hard the attacker tries",
    THRESHOLD_SCALE: "How early samples leave",
}
FRONT_TITLE = "What accuracy, robustness and compute cost each other"
ACCURACY, SAVING = "accuracy, %", "MACs saved, % of the backbone's"
LIMIT = "all at\nexit 1"
GREY = "#666666"
# Points of the front share a text where both saving and accuracy are as near as this.
NEAR = 0.09


def caption(curves: dict) -> list[str]:
    """How it was measured, in two lines."""
    return [
        f"L∞ ε = {curves['epsilon']:.4g} and {curves['num_steps']} steps, where they are not what changes; "
        f"attacks: {', '.join(curves['attacks'])}",
        f"n = {curves['n']}, {100 * curves['confidence']:.0f} % Wilson intervals",
    ]


def x_text(curve: str, x: float | None) -> str:
    """A point's place in words."""
    if x is None:
        return "everybody leaves at exit 1"
    if curve == EPSILON:
        return f"ε = {x:.4g} = {255 * x:.4g}/255"
    if curve == NUM_STEPS:
        return f"{x} step" if x == 1 else f"{x} steps"
    return f"thresholds × {x:g}"


def tick(x: float | None) -> str:
    """A number as it stands on an axis."""
    return LIMIT if x is None else {0.25: "¼", 0.5: "½"}.get(x, f"{x:g}")


def places_of(curve: str, points: list[dict]) -> list[float]:
    """Where points stand on the axis: ε to scale, the others, which grow by factors, evenly."""
    return [each["x"] for each in points] if curve == EPSILON else list(range(len(points)))


def shared_place(curve: str, points: list[dict], curves: dict) -> float:
    """Where the point stands that all curves share."""
    shared = {EPSILON: curves["epsilon"], NUM_STEPS: curves["num_steps"], THRESHOLD_SCALE: 1.0}[curve]
    return places_of(curve, points)[[each["x"] for each in points].index(shared)]


def percents(points: list[dict], key: str) -> list[float]:
    """One value of every point, in percent."""
    return [100 * each[key] for each in points]


def bounds(points: list[dict]) -> tuple[list[float], list[float]]:
    """The lower and upper ends of the accuracies' intervals, in percent."""
    low, high = zip(*(each["interval"] for each in points), strict=True)
    return [100 * each for each in low], [100 * each for each in high]


def errors(points: list[dict]) -> tuple[list[float], list[float]]:
    """How far the interval reaches below and above each accuracy, in percentage points."""
    low, high = bounds(points)
    middle = percents(points, "accuracy")
    # An accuracy of 0 or 1 is an end of its interval, but for rounding.
    below = [max(0.0, at - end) for at, end in zip(middle, low, strict=True)]
    return below, [max(0.0, end - at) for at, end in zip(middle, high, strict=True)]


@dataclass(frozen=True)
class Mark:
    """A text on the front: which scales lead to `saving`, above `top` (both in percent)."""

    saving: float
    top: float
    text: str


def marks(points: list[dict]) -> list[Mark]:
    """The texts on the front; points too near to each other for a text each share one."""
    groups: list[list[dict]] = []
    for point in points:
        first = groups[-1][0] if groups else None
        if first and all(abs(point[key] - first[key]) < NEAR for key in ("saving", "accuracy")):
            groups[-1].append(point)
        else:
            groups.append([point])
    return [
        Mark(
            saving=sum(percents(group, "saving")) / len(group),
            top=max(bounds(group)[1]),
            text=" – ".join(dict.fromkeys(_scale_text(each["x"]) for each in (group[0], group[-1]))),
        )
        for group in groups
    ]


def _scale_text(x: float | None) -> str:
    return "all at exit 1" if x is None else f"×{tick(x)}"
