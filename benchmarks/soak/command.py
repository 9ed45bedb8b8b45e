"""The command: trials in a row, a table, status 1 if anything was lost."""

import argparse
import importlib
import importlib.metadata
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.soak.fitting import ROOT, Whole
from benchmarks.soak.tally import Tally, table
from rdi_keras.serving.engines import available_cores

# By trial: its share of the time.
SHARES = {"training": 0.36, "scoring": 0.1, "serving": 0.3, "inputs": 0.1, "files": 0.14}
PACKAGES = ("rdi_keras", "tensorflow", "keras", "numpy", "onnxruntime", "pillow")
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- begin: python -m benchmarks.soak --write -->", "<!-- end -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the trials; prints what was lost as it happens, and the table at the end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15, help="for all trials; what has begun is ended")
    parser.add_argument("--seed", type=int, default=0, help="of faults, inputs and their moments")
    parser.add_argument("--trials", default=",".join(SHARES), help="some of them, separated by commas")
    parser.add_argument("--write", action="store_true", help=f"the table into {PAGE.relative_to(ROOT)}")
    given = parser.parse_args(argv)
    trials = given.trials.split(",")
    if not set(trials) <= set(SHARES) or not given.minutes > 0:
        parser.error(f"minutes must be above 0, and trials of {', '.join(SHARES)}. Received: {given}")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        tallies = run_trials(trials, given.minutes, given.seed, Path(folder))
    flags = "".join(f" --{name} {getattr(given, name)}" for name in ("minutes", "seed"))
    flags += f" --trials {given.trials}" if len(trials) < len(SHARES) else ""
    result = f"{about(flags, time.monotonic() - begun)}\n\n{table(tallies)}"
    print(result)
    if given.write:
        PAGE.write_text(replaced(PAGE.read_text(), result))
    return 1 if any(tally.lost for tally in tallies.values()) else 0


def run_trials(trials: Sequence[str], minutes: float, seed: int, folder: Path) -> dict[str, Tally]:
    """The tally of each trial, by name."""
    whole, tallies = Whole(folder / "whole"), {}
    shares = sum(SHARES[name] for name in trials)
    for name in trials:
        trial = importlib.import_module(f"benchmarks.soak.{name}")
        tally, begun = Tally(), time.monotonic()
        chance = random.Random(f"{seed} {name}")
        trial.run(tally, 60 * minutes * SHARES[name] / shares, chance, folder / name, whole)
        tally.facts.append(f"took {time.monotonic() - begun:.0f} s")
        tallies[name] = tally
        print(
            f"{name}: {time.monotonic() - begun:.0f} s, lost {tally.lost}",
            *tally.lines(),
            sep="\n",
            flush=True,
        )
    return tallies


def about(flags: str, seconds: float) -> str:
    """Command, machine, versions and time."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return (
        f"`python -m benchmarks.soak{flags}`: {seconds / 60:.1f} minutes on {available_cores()} cores "
        f"({platform.machine()}) with {memory:.0f} GiB of memory; {platform.system()}, Python "
        f"{platform.python_version()}, {versions}."
    )


def replaced(page: str, result: str) -> str:
    """The page with the result between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"error: {PAGE} has no place for the table: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{result}\n{END}{after}"
