"""Inputs for a model as strangers send them, each with what must come of it."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.soak.known import Known

HUGE = (1e30, -1e30, 1e-40, np.inf, -np.inf, 1.0000002, -1e-7, 255.0)
NO_IMAGES = (
    None,
    "image.png",
    b"\x89PNG",
    7,
    0.5,
    True,
    {},
    {"images": 1},
    set(),
    object(),
    [],
    [[]],
    [None],
)
NO_NUMBERS = (
    "x",
    "0.5 0.5",
    b"\x00",
    {},
    {"a": 1},
    object(),
    [None, None],
    ["a", "b"],
    [[1], [1, 2]],
    1j,
    [],
)


@dataclass(frozen=True)
class Request:
    """Arguments of `predict`.

    Attributes:
        images: as they are handed in.
        how: thresholds, budget, batch size.
        rows: of the known images, where the request is one that must be answered.
        limits: thresholds `[B, N-1]` that decide where they leave, then.
        said: the request in words.
    """

    images: Any
    how: dict
    rows: np.ndarray | None
    limits: np.ndarray | None
    said: str


def request(known: Known, chance: random.Random) -> Request:
    """Half of them right in an unusual form, half of them wrong in images or in how to decide."""
    rows = np.array(chance.choices(range(len(known.images)), k=chance.choice((0, 1, 2, 5, 16))), int)
    if chance.random() < 0.35:
        images, said = _wrong_images(known.images[rows], chance)
        return Request(images, {}, None, None, said)
    images, said = _unusual_images(known.images, rows, chance)
    if chance.random() < 0.35:
        how = _wrong_how(len(rows), known.predictor.num_exits, chance)
        return Request(images, how, None, None, f"{said}, {how}")
    how = _unusual_how(len(rows), known.predictor.num_exits, chance)
    chosen = {name: np.asarray(value, np.float32) for name, value in how.items() if name != "batch_size"}
    return Request(images, how, rows, known.limits(len(rows), **chosen), f"{said}, {how}")


def _unusual_images(images: np.ndarray, rows: np.ndarray, chance: random.Random) -> tuple[Any, str]:
    """These rows, in another form."""
    taken = images[rows]
    twice = np.repeat(taken, 2, axis=0)
    forms = {
        "float64": taken.astype(np.float64),
        "long double": taken.astype(np.longdouble),
        "big-endian": taken.astype(">f4"),
        "in Fortran's order": np.asfortranarray(taken),
        "every second of an array": twice[::2],
        "backwards": taken[::-1].copy()[::-1],
        "turned and turned back": np.ascontiguousarray(taken.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3),
        "masked array": np.ma.masked_array(taken),
        "as it is": taken,
    }
    if len(rows):  # An empty list has no shape.
        forms |= {"nested lists": taken.tolist(), "list of arrays": list(taken)}
    said = chance.choice(list(forms))
    return forms[said], f"{len(rows)} images, {said}"


def _wrong_images(taken: np.ndarray, chance: random.Random) -> tuple[Any, str]:
    """What must be refused, made of these images or of nothing."""
    kind = chance.randrange(6)
    if kind == 0 or not len(taken):
        value = chance.choice(NO_IMAGES)
        return value, repr(value)
    if kind == 1:  # One pixel.
        spoilt = taken.astype(chance.choice((np.float16, np.float32, np.float64)))
        value = chance.choice(
            (*HUGE, np.nan) if spoilt.dtype != np.float16 else (np.nan, np.inf, -1.0, 300.0)
        )
        with np.errstate(over="ignore", under="ignore"):
            spoilt[tuple(map(chance.randrange, spoilt.shape))] = value
        if not (spoilt < 0).any() and (spoilt <= 1).all():  # Rounded to a pixel that is allowed.
            spoilt[0, 0, 0, 0] = np.nan
        return spoilt, f"a pixel of {value} as {spoilt.dtype}"
    if kind == 2:
        kinds = (np.uint8, np.int64, bool, complex, object, str, "S8", "datetime64[s]")
        dtype = chance.choice(kinds)
        converted = np.round(taken * 255).astype(np.int64).astype(dtype)
        return converted, f"dtype {converted.dtype}"
    if kind == 3:
        shape = list(taken.shape)
        change = chance.choice(("less", "more", "axis gone", "axis added", "flat", "nothing"))
        axis = chance.randrange(1, 4)
        if change == "less":
            return np.delete(taken, 0, axis), f"{change} along axis {axis} of {shape}"
        if change == "more":
            return np.repeat(taken, 2, axis), f"{change} along axis {axis} of {shape}"
        if change == "axis gone":
            return taken[0], change
        if change == "axis added":
            return taken[None], change
        return (taken.ravel(), change) if change == "flat" else (taken[:, :, :0], change)
    if kind == 4:
        return [*taken.tolist(), [[0.5]]], "images of several sizes"
    fields = np.zeros(len(taken), [("image", np.float32, taken.shape[1:])])
    return chance.choice(((each for each in taken), fields, memoryview(b"abc"), type)), "no array of numbers"


def _unusual_how(count: int, num_exits: int, chance: random.Random) -> dict:
    """Thresholds or a budget that are allowed."""

    def number(most: float) -> float:
        return chance.choice((chance.uniform(0, most), 0.0, -1.0, 1e30, np.inf, -np.inf, 1))

    how = {} if chance.random() < 0.5 else {"batch_size": chance.choice((1, 3, 10**12, np.int64(2)))}
    side = num_exits - 1
    chosen = chance.choice(
        (
            {},
            {"thresholds": [number(2) for _ in range(side)]},
            {"thresholds": tuple(number(2) for _ in range(side))},
            {"thresholds": np.array([[number(2)] * side for _ in range(count)]).reshape(count, side)},
            {"budget": number(1.2)},
            {"budget": np.array([number(1.2) for _ in range(count)])},
        )
    )
    return how | chosen


def _wrong_how(count: int, num_exits: int, chance: random.Random) -> dict:
    """Thresholds, budgets and batch sizes that must be refused."""
    side = num_exits - 1
    nothing = chance.choice(NO_NUMBERS)
    return chance.choice(
        (
            {"thresholds": nothing},
            {"budget": nothing if nothing != [] or count else "x"},
            {"thresholds": [np.nan] * side},
            {"thresholds": [0.5] * (side + 1)},
            {"thresholds": np.zeros((count + 1, side))},
            {"thresholds": np.zeros((count, side, 1))},
            {"budget": np.nan},
            {"budget": np.zeros(count + 2)},
            {"budget": np.zeros((count, 1, 1))},
            {"thresholds": [0.5] * side, "budget": 0.5},
            {"batch_size": chance.choice((0, -1, 2.5, "8", None, np.nan, [1], np.inf))},
        )
    )
