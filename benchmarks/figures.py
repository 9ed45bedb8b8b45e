"""The figures of docs/how_it_works.md, drawn from the digits model that ships.

    python benchmarks/figures.py

`leaving.png`: the first calibration image that is right and leaves at exit 1 with half the entropy that is
allowed there and, under the `slowdown` attack of the suites, at the last exit. `exits.png`: what every part
of its network costs.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from matplotlib.patches import Rectangle

import rdi_keras as rdi
from rdi_keras.evaluation.curve_style import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
# Okabe and Ito 2008: told apart without seeing colours, and by marks and lines in grey.
CLEAN, ATTACKED, HEAD = "#0072B2", "#D55E00", "#E69F00"
# Where the rows of exits.png stand.
PLAIN, TRUNK, HEADS = 0.0, 1.6, 3.2


def find_sample(predictor: rdi.Predictor) -> tuple[int, int, np.ndarray]:
    """Position, label, and the image clean and attacked, float32 `[2, H, W, C]`, of the one to draw."""
    data = rdi.data.load("digits").calibration
    clean = predictor.predict(data.images)
    sure = clean.entropy < predictor.thresholds[0] / 2
    early = np.flatnonzero((clean.exit == 1) & sure & (clean.label == data.labels))
    attack = next(
        each.attack
        for each in rdi.evaluation.suite("standard", predictor.metadata.epsilon_value)
        if each.name == "slowdown"
    )
    attacked = attack(predictor, data.images[early], data.labels[early], predictor.thresholds).numpy()
    late = np.flatnonzero(predictor.predict(attacked).exit == predictor.num_exits)
    if not len(late):
        raise rdi.InputError("No calibration image that leaves at exit 1 was slowed down to the last exit")
    place = early[late[0]]
    return int(place), int(data.labels[place]), np.stack([data.images[place], attacked[late[0]]])


def draw_leaving(path: Path, predictor: rdi.Predictor) -> None:
    """A sample that leaves early and the same one attacked: pixels, entropies, thresholds, exits."""
    from matplotlib.figure import Figure

    place, label, images = find_sample(predictor)
    answers = predictor.predict(images)
    entropies = np.stack([rdi.inference.entropy(each) for each in predictor.exits(images).values()], axis=1)
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    figure.suptitle(f"Digits, image {place} of the calibration data, a {label}", fontsize=11)
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 3.4])
    axes = figure.add_subplot(grid[:, 1])
    _draw_thresholds(axes, predictor, entropies)
    looks = [
        ("clean", CLEAN, "o-", (14, 0), "left"),
        (f"attacked, L∞ ε = {predictor.metadata.epsilon}", ATTACKED, "s--", (0, -14), "center"),
    ]
    for row, (name, color, look, offset, side) in enumerate(looks):
        pixels = figure.add_subplot(grid[row, 0])
        pixels.imshow(images[row, ..., 0], cmap="gray", vmin=0, vmax=1)
        pixels.set(xticks=[], yticks=[])
        pixels.spines[:].set(color=color, linewidth=3)
        pixels.set_title(name, fontsize=11, color=color)
        last = int(answers.exit[row])
        axes.plot(range(1, last + 1), entropies[row, :last], look, color=color, markersize=9)
        spent = percent(answers.macs[row], predictor)
        axes.annotate(
            f"{name.partition(',')[0]}: leaves here,\nanswers {answers.label[row]}, spent {spent}",
            (last, entropies[row, last - 1]),
            xytext=offset,
            textcoords="offset points",
            ha=side,
            va="center" if side == "left" else "top",
            color=color,
        )
    figure.savefig(path, dpi=110)


def _draw_thresholds(axes: "Axes", predictor: rdi.Predictor, entropies: np.ndarray) -> None:
    lowest, highest = entropies.min() / 3, entropies.max() * 2
    for number, threshold in enumerate(predictor.thresholds, start=1):
        ends = [number - 0.2, number + 0.2]
        axes.fill_between(ends, lowest, threshold, color=GREY, alpha=0.15, linewidth=0)
        axes.plot(ends, [threshold, threshold], color="black")
        axes.text(
            number, threshold * 1.08, f"threshold {threshold:.4f}", ha="center", va="bottom", fontsize=9
        )
        axes.text(number, lowest * 1.15, "sure: leaves", ha="center", va="bottom", fontsize=9, color=GREY)
    costs = [percent(each, predictor) for each in predictor.metadata.macs_per_exit]
    labels = [f"exit {number}\n{cost}" for number, cost in enumerate(costs, start=1)]
    axes.text(len(labels), lowest * 1.15, "last: always leaves", ha="center", fontsize=9, color=GREY)
    axes.set_xticks(range(1, len(labels) + 1), labels)
    axes.set(yscale="log", xlim=(0.6, len(labels) + 0.5), ylim=(lowest, highest))
    axes.set(xlabel="multiply-accumulates spent, % of the backbone's", ylabel="entropy of the answer, nats")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)


def draw_exits(path: Path, predictor: rdi.Predictor) -> None:
    """What runs for a sample that goes all the way, to scale, and what has run where it could have left."""
    from matplotlib.figure import Figure

    metadata = predictor.metadata
    backbone = rdi.models.small_cnn(tuple(metadata.input_shape), len(metadata.class_names))
    cost = rdi.inference.cost_table(rdi.models.MultiExitModel.from_backbone(backbone))
    if cost.cumulative != metadata.macs_per_exit:
        raise rdi.InputError(
            f"The model on disk costs {metadata.macs_per_exit}, the network drawn {cost.cumulative}"
        )
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    size = "×".join(map(str, metadata.input_shape))
    axes.set_title(f"{backbone.name} on {size} images: what runs for one that goes all the way", fontsize=11)
    place = plain = 0.0
    for number, (segment, head, spent) in enumerate(
        zip(cost.segments, cost.heads, cost.cumulative, strict=True), start=1
    ):
        for part, lane, name, color in (
            (segment, TRUNK, f"trunk {number}", CLEAN),
            (head, HEADS, f"head {number}", HEAD),
        ):
            width = 100 * part / cost.backbone
            _draw_box(axes, place, width, lane, f"{name}\n{width:.0f} %", color)
            if lane == TRUNK or number == len(cost.heads):
                _draw_box(axes, plain, width, PLAIN, "", color)
                plain += width
            place += width
        middle = place - width / 2
        axes.annotate(
            f"exit {number}\n{percent(spent, predictor)}",
            (middle, HEADS + 0.75),
            xytext=(middle, HEADS + 1.35),
            ha="center",
            arrowprops={"arrowstyle": "<-"},
        )
    axes.text(plain + 1, PLAIN + 0.35, "the backbone alone: 100 %", va="center")
    axes.set(xlim=(-4, place + 4), ylim=(PLAIN - 0.2, HEADS + 2.2), yticks=[])
    axes.set_xlabel("multiply-accumulates spent, % of the backbone's")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=110)


def _draw_box(axes: "Axes", left: float, width: float, lane: float, text: str, color: str) -> None:
    axes.add_patch(Rectangle((left, lane), width, 0.75, facecolor=color, edgecolor="white", linewidth=1.5))
    if width > 10:
        axes.text(left + width / 2, lane + 0.37, text, ha="center", va="center", color="white")
    else:
        axes.text(left + width / 2, lane - 0.1, text, ha="center", va="top", fontsize=9)


def percent(macs: float, predictor: rdi.Predictor) -> str:
    """Multiply-accumulates as a share of the backbone's."""
    return f"{100 * macs / predictor.metadata.macs_backbone:.0f} %"


def main() -> None:
    """Draws both into docs/figures."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    predictor = rdi.Predictor(ROOT / "saved_models" / "digits" / "1", engine="tensorflow")
    folder = ROOT / "docs" / "figures"
    draw_exits(folder / "exits.png", predictor)
    draw_leaving(folder / "leaving.png", predictor)


if __name__ == "__main__":
    main()
