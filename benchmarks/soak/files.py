"""Files of a run folder and of an exported version, damaged one at a time: refused, or the same answer.

Every look is in a process beside this one, which a damaged file may bring down.
"""

import contextlib
import io
import multiprocessing
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import rdi_keras as rdi
from benchmarks.soak.damage import DAMAGES, damage_file
from benchmarks.soak.fitting import HUNG_AFTER, Whole
from benchmarks.soak.tally import LOST, REFUSED, RIGHT, UNNOTICED, Tally
from rdi_keras.errors import InputError
from rdi_keras.files import SUMS_FILE

RUN, VERSION, WITHOUT_SUMS = "run folder", "version", f"version without {SUMS_FILE}"
EVALUATION = ("--part=calibration", "--limit=1", "--curve_samples=0", "--engine=none", "--epsilon=0")


@dataclass(frozen=True)
class Look:
    """A way to use a folder.

    Attributes:
        name: in words.
        folder: which one it uses.
        result: of a path: what must stay the same.
        reads: the files that it reads. Each is damaged in every way, and the others in one.
        only: whether no other file is damaged.
        slow: whether each file is damaged once.
    """

    name: str
    folder: str
    result: Callable[[str], bytes]
    reads: tuple[str, ...]
    only: bool = False
    slow: bool = False


def _answers(path: str, engine: str) -> bytes:
    prediction = rdi.Predictor(path, engine=engine).predict(rdi.data.load("digits").test.images[:16])
    return b"".join(np.asarray(each).tobytes() for each in vars(prediction).values())


def _by_tensorflow(path: str) -> bytes:
    return _answers(path, "tensorflow")


def _by_onnxruntime(path: str) -> bytes:
    return _answers(path, "onnxruntime")


def _report(path: str) -> bytes:
    from rdi_keras.evaluation.report import read_report
    from rdi_keras.metadata import Metadata

    return repr(read_report(Path(path), Metadata.read(Path(path)))).encode()


def _evaluation(path: str) -> bytes:
    """The table that `evaluate.py` prints."""
    from rdi_keras.cli import evaluate

    said, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        status = evaluate.main([path, *EVALUATION])
    if status:
        raise InputError(errors.getvalue())
    return said.getvalue().encode()


LOOKS = (
    Look("Predictor, TensorFlow", VERSION, _by_tensorflow, ("saved_model.pb", "metadata.json")),
    Look("Predictor, ONNX Runtime", VERSION, _by_onnxruntime, ("adaptive.onnx", "metadata.json")),
    Look(f"TensorFlow, no {SUMS_FILE}", WITHOUT_SUMS, _by_tensorflow, ("saved_model.pb",), only=True),
    Look(f"ONNX Runtime, no {SUMS_FILE}", WITHOUT_SUMS, _by_onnxruntime, ("adaptive.onnx",), only=True),
    Look("read_report", VERSION, _report, ("report.json", "metadata.json"), only=True),
    Look("Predictor, Keras", RUN, _by_tensorflow, ("model.keras", "metadata.json")),
    Look(
        *("evaluate.py", RUN, _evaluation, ("config.yaml", "calibration.json", "metadata.json")),
        only=True,
        slow=True,
    ),
)


def run(tally: Tally, seconds: float, chance: random.Random, folder: Path, whole: Whole) -> None:
    """Every file and damage once, in an order of chance; where time is left, more flipped bits."""
    folder.mkdir(parents=True)
    originals = {RUN: whole.fit.run, VERSION: whole.fit.saved_models / "1"}
    originals[WITHOUT_SUMS] = Path(shutil.copytree(originals[VERSION], folder / "without"))
    (originals[WITHOUT_SUMS] / SUMS_FILE).unlink()
    planned = [
        (look, file, damage)
        for look in LOOKS
        for file in sorted(_files(originals[look.folder]))
        for damage in (DAMAGES if file in look.reads and not look.slow else (chance.choice(DAMAGES),))
        if not look.only or file in look.reads
    ]
    chance.shuffle(planned)
    flips = [(look, file, "flipped") for look in LOOKS for file in look.reads if not look.slow]
    with Watcher() as watcher:
        right = {look.name: watcher.look(look, originals[look.folder]) for look in LOOKS}
        for name, (outcome, result) in right.items():
            if outcome != RIGHT:
                raise RuntimeError(f"{name} fails on whole files: {result!r}")
        done, deadline = Counter(), time.monotonic() + seconds
        while not done or time.monotonic() < deadline:
            look, file, damage = planned.pop() if planned else chance.choice(flips)
            copy = folder / "copy"
            shutil.copytree(originals[look.folder], copy)
            damage_file(copy / file, damage, chance)
            outcome, result = watcher.look(look, copy)
            if outcome == RIGHT and result != right[look.name][1]:
                outcome = UNNOTICED
            kind = file if file in look.reads else "another file"
            kind += ", a bit flipped" if damage == "flipped" else " cut, emptied or removed"
            words = result.decode(errors="replace") if outcome == LOST else ""
            tally.note(f"{look.name}: {kind}", outcome, f"{file} {damage}: {words}")
            done[outcome] += 1
            shutil.rmtree(copy)
    if planned:
        tally.facts.append(f"time was up with {len(planned)} of {len(planned) + done.total()} damages to do")


def _files(folder: Path) -> list[str]:
    return [each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()]


class Watcher:
    """Looks from a process of its own, started again where it was brought down."""

    def __enter__(self) -> "Watcher":
        self._pool = self._started()
        return self

    def __exit__(self, *_):
        self._pool.shutdown(cancel_futures=True)

    def look(self, look: Look, path: Path) -> tuple[str, bytes]:
        """Outcome, and the result or what went wrong."""
        try:
            return self._pool.submit(_look, look, str(path)).result(timeout=HUNG_AFTER)
        except BrokenProcessPool:
            self._pool = self._started()
            return LOST, b"the process was brought down"
        except TimeoutError:
            for each in list(self._pool._processes.values()):
                each.kill()
            self._pool = self._started()
            return LOST, b"hung"

    @staticmethod
    def _started() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _look(look: Look, path: str) -> tuple[str, bytes]:
    try:
        return RIGHT, look.result(path)
    except InputError as error:
        return (REFUSED, b"") if str(error).strip() else (LOST, b"refused without a word")
    except Exception as error:
        return LOST, f"{type(error).__name__}: {error}".encode()
