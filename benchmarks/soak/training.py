"""Training that is killed, told to stop, denied the disk, and robbed of its checkpoints."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

import rdi_keras as rdi
from benchmarks.soak.damage import DAMAGES, damage_file
from benchmarks.soak.fitting import Fit, Whole, start, to_the_end, traceback_in, until, with_small_files
from benchmarks.soak.tally import LOST, RIGHT, Tally
from rdi_keras.files import ASIDE
from rdi_keras.runs import HISTORY_FILE, RunFolder

ENDS = "training to its end, compared bit for bit"
LIMITED = "files may not grow past 1 kB … 4 MB (RLIMIT_FSIZE)"
DISK = "disk full at 16 kB … 4 MB (tmpfs), then not"
CHECKPOINTS = "newest checkpoint {}"
ALL = "all checkpoints emptied"
ASIDES = "first files half written"


# On a disk of $1 kB; when the run has failed for it, with more room again.
ON_A_FULL_DISK = """
mount -t tmpfs -o size=$1k soak "$2" || exit 99
shift 2; folder=$1; shift
"$@"; echo "status $?"
mount -o remount,size=256m "$folder"
"$@"; echo "status $?"
cp -r "$folder"/. "$folder".kept
"""


def run(tally: Tally, seconds: float, chance: random.Random, folder: Path, whole: Whole) -> None:
    """Trainings one after the other, cut and damaged until the time is up; each must end as the whole one."""
    tally.facts.append(f"the training that nothing happened to took {whole.seconds:.1f} s without imports")
    expected, number, deadline = _weights(whole.fit), 0, time.monotonic() + seconds
    while not number or time.monotonic() < deadline:
        if number % 3 == 1:
            _on_a_full_disk(tally, chance, folder / f"disk-{number}", whole, expected)
        fit = Fit(folder / f"round-{number}")
        met, errors = _cut_until_done(fit, deadline, chance, whole.seconds)
        errors += _differences(fit, whole, expected) if not errors else []
        for each in [*met, ENDS]:
            tally.note(each, LOST if errors else RIGHT, f"round {number}: {'; '.join(errors)}")
        if not errors:
            shutil.rmtree(fit.folder)
        number += 1


def _cut_until_done(
    fit: Fit, deadline: float, chance: random.Random, whole_seconds: float
) -> tuple[list[str], list[str]]:
    """Starts the command until it ends by itself; what it met, and what went wrong."""
    met, errors, reach = [_half_written(fit)], [], 0.6 * whole_seconds
    while not errors:
        met += _damaged(fit, chance) if chance.random() < 0.4 else []
        limited = chance.random() < 0.15 and time.monotonic() < deadline
        blocks = int(2 ** chance.uniform(1, 13))
        process = start(with_small_files(fit.command, blocks) if limited else fit.command)
        said = until(process)
        stop = None
        if not limited and time.monotonic() < deadline:
            stop = signal.SIGKILL if chance.random() < 0.8 else signal.SIGTERM
            try:
                process.wait(chance.uniform(0, reach))
            except subprocess.TimeoutExpired:
                process.send_signal(stop)
        # It gets further each time, so that a slow machine comes to an end too.
        reach *= 1.2
        rest, status = to_the_end(process)
        said += rest
        if limited:
            met.append(LIMITED)
            errors += traceback_in(said) if status in (0, 2) else [f"status {status}: {said[-300:]}"]
            continue
        if status == 0 and "stopped by SIGTERM" not in said:
            break
        allowed = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 0}.get(stop, 0)
        if status != allowed and status != -(stop or 0):
            errors.append(f"status {status}: {said[-300:]}")
        met.append(f"{stop.name} {_stage(fit)}" if stop else "")
        errors += traceback_in(said)
    return [each for each in met if each], errors


def _stage(fit: Fit) -> str:
    run = RunFolder(fit.run)
    if run.is_finished:
        return "while measured and exported"
    return "in training" if run.checkpoints_path.is_dir() else "before the first checkpoint"


def _half_written(fit: Fit) -> str:
    """As a kill in the very first moment leaves a run folder."""
    fit.run.mkdir(parents=True)
    (fit.run / f"{ASIDE}config.yaml").write_text("data:\n  na")
    (fit.run / f"{ASIDE}environment.json").touch()
    return ASIDES


def _damaged(fit: Fit, chance: random.Random) -> list[str]:
    """Damages the newest checkpoint, or all of them; what was done, if there is any."""
    found = sorted(RunFolder(fit.run).checkpoints_path.glob("*.npz"))
    if not found:
        return []
    if chance.random() < 0.2:
        for each in found:
            damage_file(each, "emptied", chance)
        return [ALL]
    damage = chance.choice(DAMAGES)
    damage_file(found[-1], damage, chance)
    return [CHECKPOINTS.format(damage)]


def _weights(fit: Fit) -> list[np.ndarray]:
    return [each.numpy() for each in RunFolder(fit.run).load_model().weights]


def _differences(fit: Fit, whole: Whole, expected: list[np.ndarray]) -> list[str]:
    """Where the end is not that of the whole training."""
    found = []
    if not all(map(np.array_equal, _weights(fit), expected)):
        found.append("other weights")
    if len({(each.run / HISTORY_FILE).read_text() for each in (fit, whole.fit)}) > 1:
        found.append(f"another {HISTORY_FILE}")
    versions = [each.name for each in fit.saved_models.iterdir() if each.name.isdigit()]
    if versions != ["1"]:
        return [*found, f"versions {versions}"]
    images = rdi.data.load("digits").test.images[:16]
    answers = [rdi.Predictor(each.saved_models).predict(images) for each in (fit, whole.fit)]
    if not np.array_equal(answers[0].probabilities, answers[1].probabilities):
        found.append("the exported model answers otherwise")
    return found


def _on_a_full_disk(
    tally: Tally, chance: random.Random, folder: Path, whole: Whole, expected: list[np.ndarray]
) -> None:
    """A small file system fills up while a training runs; it gets room, and the training goes on."""
    folder.mkdir(parents=True)
    fit, size = Fit(folder), int(2 ** chance.uniform(4, 12))
    # A name space of its own: the mount ends with the process, and only root needs no user name space.
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if shutil.which("unshare") is None:
        return tally.facts.append("full disk: skipped, as there is no `unshare` here")
    process = start([*alone, "sh", "-c", ON_A_FULL_DISK, "sh", str(size), *[str(folder)] * 2, *fit.command])
    said, status = to_the_end(process)
    if status == 99 or "unshare:" in said:
        return tally.facts.append("full disk: skipped, as mounting is not allowed here")
    statuses = [line.split()[1] for line in said.splitlines() if line.startswith("status ")]
    errors = traceback_in(said)
    if statuses[:1] not in (["0"], ["2"]) or statuses[1:] != ["0"]:
        errors.append(f"{size} kB: statuses {statuses}: {said[-300:]}")
    errors += [] if errors else _differences(Fit(Path(f"{folder}.kept")), whole, expected)
    return tally.note(DISK, LOST if errors else RIGHT, "; ".join(errors))
