"""Scoring that is killed and denied the disk, of images some of which are damaged.

As a process of its own, `python -m benchmarks.soak.scoring MODEL PHOTOS --out=OUT …` is `training/score.py`
with one worker and without Ray: the shards are scored in this process, so that a signal kills the worker.
"""

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import rdi_keras as rdi
from benchmarks.soak.damage import DAMAGES, damage_file
from benchmarks.soak.fitting import ROOT, Whole, start, to_the_end, traceback_in, until, with_small_files
from benchmarks.soak.known import Known
from benchmarks.soak.tally import LOST, REFUSED, RIGHT, UNNOTICED, Tally
from rdi_keras.errors import InputError
from rdi_keras.scoring import ResultFolder, runner
from rdi_keras.scoring.results import ERRORS_FILE, SUMMARY_FILE
from rdi_keras.scoring.worker import ShardScorer

MODEL = ROOT / "saved_models" / "digits" / "1"
IMAGES, DAMAGED, SHARD = 4000, 80, 25
BEGUN = "begun"
WHOLE_IMAGES, DAMAGED_IMAGES = "whole images scored", "damaged images scored"
ENDS = "scorings to their end, compared row by row"
LIMITED = "files may not grow past 0 … 8 kB (RLIMIT_FSIZE)"
SHARDS = "a shard {}"


def run(tally: Tally, seconds: float, chance: random.Random, folder: Path, whole: Whole) -> None:
    """Scorings one after the other, killed until the time is up; each must end with the same rows."""
    photos = folder / "photos"
    damaged = _write_photos(photos, chance)
    process = start(_command(photos, folder / "whole"))
    said, status = to_the_end(process)
    if status:
        raise RuntimeError(f"The scoring that nothing happens to failed:\n{said}")
    expected = ResultFolder(folder / "whole", "path")
    _count_photos(tally, photos, damaged, expected)
    deadline, number = time.monotonic() + seconds, 0
    while not number or time.monotonic() < deadline:
        out = folder / f"round-{number}"
        met, errors = _cut_until_done(photos, out, deadline, chance)
        errors += _differences(ResultFolder(out, "path"), expected) if not errors else []
        for each in [*met, ENDS]:
            tally.note(each, LOST if errors else RIGHT, f"round {number}: {'; '.join(errors)}")
        shutil.rmtree(out)
        number += 1


def _write_photos(folder: Path, chance: random.Random) -> set[str]:
    """Digits as PNG files in folders of their classes; returns the paths of those that are damaged."""
    pixels, labels, paths = _pixels()[..., 0], rdi.data.load("digits").test.labels, []
    for number in range(IMAGES):
        row = number % len(pixels)
        path = folder / str(labels[row]) / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[row]).save(path)
        paths.append(path)
    chosen = chance.sample(paths, DAMAGED)
    for path in chosen:
        damage_file(path, chance.choice(DAMAGES[:-1]), chance)
    return {path.relative_to(folder).as_posix() for path in chosen}


def _pixels() -> np.ndarray:
    """The digits as image files hold them: uint8 `[n, 8, 8, 1]`."""
    return np.round(rdi.data.load("digits").test.images * 255).astype(np.uint8)


def _count_photos(tally: Tally, photos: Path, damaged: set[str], results: ResultFolder) -> None:
    """Every image once; what is whole scored rightly, what is damaged listed, or scored as before."""
    known = Known.of(MODEL, _pixels() / np.float32(255))
    everyone = np.arange(len(known.images))
    exits, sure = known.exits(everyone, known.limits(len(everyone)))
    labels = known.probabilities[everyone, exits - 1].argmax(axis=1)
    rows = results.read().to_pylist()
    paths = [row["path"] for row in rows]
    if paths != sorted(each.relative_to(photos).as_posix() for each in photos.rglob("*.png")):
        tally.note(WHOLE_IMAGES, LOST, f"{len(set(paths))} paths in {len(rows)} rows for {IMAGES} images")
    for row in rows:
        kind = DAMAGED_IMAGES if row["path"] in damaged else WHOLE_IMAGES
        number = int(Path(row["path"]).stem) % len(known.images)
        expected = [labels[number], exits[number]]
        if row["error"] is not None:
            tally.note(kind, REFUSED if kind == DAMAGED_IMAGES else LOST, f"{row['path']}: {row['error']}")
        elif [row["label"], row["exit"]] == expected or not sure[number]:
            tally.note(kind, RIGHT)
        else:
            tally.note(kind, UNNOTICED if kind == DAMAGED_IMAGES else LOST, f"{row} is not {expected}")


def _command(photos: Path, out: Path) -> list[str]:
    module = [sys.executable, "-m", "benchmarks.soak.scoring"]
    return [*module, str(MODEL), str(photos), f"--out={out}", "--workers=1", f"--shard_size={SHARD}"]


def _cut_until_done(
    photos: Path, out: Path, deadline: float, chance: random.Random
) -> tuple[list[str], list[str]]:
    """Starts the command until it ends by itself; what it met, and what went wrong."""
    met, errors, reach = [], [], 1.0
    while not errors:
        shards = sorted(out.glob("shard-*.parquet"))
        if shards and chance.random() < 0.5:
            damage = chance.choice(DAMAGES)
            damage_file(chance.choice(shards), damage, chance)
            met.append(SHARDS.format(damage))
        limited = chance.random() < 0.2 and time.monotonic() < deadline
        command = _command(photos, out)
        process = start(with_small_files(command, chance.randrange(16)) if limited else command)
        said = until(process, BEGUN)
        killed = not limited and time.monotonic() < deadline
        if killed:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, reach))
            process.send_signal(signal.SIGKILL)
        reach *= 1.2
        rest, status = to_the_end(process)
        said += rest
        errors += traceback_in(said)
        if limited:
            met.append(LIMITED)
            errors += [] if status in (0, 2) else [f"status {status}: {said[-300:]}"]
        elif status == 0:
            break
        elif status == -signal.SIGKILL and killed:
            met.append("SIGKILL while scoring")
        else:
            errors.append(f"status {status}: {said[-300:]}")
    return met, errors


def _differences(found: ResultFolder, expected: ResultFolder) -> list[str]:
    """Where the rows are not those of the scoring that nothing happened to."""
    errors = []
    ours, theirs = found.read(), expected.read()
    if not ours.equals(theirs):
        lost = set(theirs["path"].to_pylist()) - set(ours["path"].to_pylist())
        errors.append(f"{len(ours)} rows, not {len(theirs)}; {len(lost)} lost; or others")
    if found.errors(IMAGES) != expected.errors(IMAGES):
        errors.append(f"another {ERRORS_FILE}")
    summaries = [json.loads((each.path / SUMMARY_FILE).read_text()) for each in (found, expected)]
    return errors if summaries[0] == summaries[1] else [*errors, f"another {SUMMARY_FILE}"]


def _here(ray, plan, shards, workers) -> Iterator[dict]:
    """In place of Ray: scores in this process."""
    scorer = ShardScorer(plan)
    print(BEGUN, flush=True)
    for shard in shards:
        answer = scorer(shard)
        if answer["refused"]:
            raise InputError(answer["refused"])
        yield answer


if __name__ == "__main__":
    from rdi_keras.cli import score

    runner._import_ray = lambda: None
    runner._ray_connection = lambda *_: contextlib.nullcontext()
    runner._run = _here
    sys.exit(score.main(sys.argv[1:]))
