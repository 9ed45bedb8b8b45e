"""Damage to bytes, as disks, cut copies and strangers do it."""

import copy
import json
import random
from pathlib import Path

DAMAGES = ("flipped", "truncated", "emptied", "removed")
WORDS = (b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff")

# In place of a value in JSON.
ODD_VALUES = (
    *(None, True, -1, 0, 1.5, 1e308, 10**40, "", "x", "\ud800", "9" * 5000),
    *([], [None], [[]], {}, {"a": 1}),
)
DEEP = "[" * 100_000


def flipped(data: bytes, chance: random.Random) -> bytes:
    """With one bit changed."""
    damaged = bytearray(data)
    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def truncated(data: bytes, chance: random.Random) -> bytes:
    """Cut short."""
    return data[: chance.randrange(len(data))]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """With up to 16 changes: other bytes, lost ones, new ones, large numbers; sometimes cut short.

    Headers decide most, so half of the changes are in the first 64 bytes.
    """
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        kind, place = chance.randrange(5), chance.randrange(len(damaged))
        if chance.random() < 0.5:
            place = min(place, chance.randrange(64))
        if kind == 0:
            damaged[place] = chance.randrange(256)
        elif kind == 1:
            damaged[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del damaged[place : place + chance.randrange(1, 9)]
        elif kind == 3:
            damaged[place:place] = chance.randbytes(chance.randrange(1, 9))
        else:
            damaged[place : place + 4] = chance.choice(WORDS)
        if len(damaged) < 2:
            break
    return truncated(bytes(damaged), chance) if chance.random() < 0.1 and damaged else bytes(damaged)


def damage_file(path: Path, kind: str, chance: random.Random) -> None:
    """Leaves the file flipped, truncated, emptied or removed."""
    if kind == "removed":
        path.unlink()
        return
    data = path.read_bytes()
    change = {"flipped": flipped, "truncated": truncated, "emptied": lambda *_: b""}[kind]
    path.write_bytes(change(data, chance) if data else data)


def odd_json(text: str, chance: random.Random) -> bytes:
    """JSON with other values in some places, or with other bytes, or nothing like it."""
    if chance.random() < 0.02:
        return DEEP.encode()
    if chance.random() < 0.4:
        return mutated(text.encode(), chance)
    value = json.loads(text)
    for _ in range(chance.randrange(1, 3)):
        place = value
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(place[key], dict | list) and chance.random() < 0.6:
                place = place[key]
                continue
            if chance.random() < 0.25:
                del place[key]
            else:
                place[key] = copy.copy(chance.choice(ODD_VALUES))
            break
    return json.dumps(value).encode()
