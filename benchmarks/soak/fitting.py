"""The short training that trials run: as a command, in a process of its own, which may be killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = "soak"
SETTINGS = (
    *("--data.train_limit=512", "--training.epochs=3", "--training.attack.num_steps=1"),
    *("--training.checkpoint_steps=1", "--training.deterministic=true", "--twin=false"),
    *("--evaluation.suite=quick", "--evaluation.limit=1", "--evaluation.curve_samples=0"),
    "--evaluation.engine=none",
)
BEGUN = "devices:"  # Printed when imports are over and the run folder is next.
HUNG_AFTER = 300.0


def environment() -> dict[str, str]:
    """Of child processes: TensorFlow keeps to itself what is no error."""
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(frozen=True)
class Fit:
    """`fit.py --resume` in a folder: a command that may be repeated until it is done.

    Attributes:
        folder: of everything that it writes.
    """

    folder: Path

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "runs" / NAME

    @property
    def saved_models(self) -> Path:
        """The folder of exported versions."""
        return self.folder / "saved_models" / NAME

    @property
    def command(self) -> list[str]:
        """What is run."""
        places = [f"--runs_dir={self.folder}/runs", f"--saved_models_dir={self.folder}/saved_models"]
        return [sys.executable, "training/fit.py", "--resume", f"--name={NAME}", *places, *SETTINGS]


def start(command: list[str]) -> subprocess.Popen:
    """A process whose words come through a pipe, errors among them."""
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment(), **pipe)


def with_small_files(command: list[str], blocks: int) -> list[str]:
    """The command, none of whose files may grow past so many blocks of 512 bytes: as on a full disk."""
    return ["sh", "-c", 'ulimit -f "$0" && exec "$@"', str(blocks), *command]


def until(process: subprocess.Popen, begun: str = BEGUN) -> str:
    """Reads what a process says until a line begins with this, or the process ends."""
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith(begun):
            break
    return said


def traceback_in(said: str) -> list[str]:
    """The error that nobody put into words, if there is one."""
    return [f"a traceback: {said[said.index('Traceback') :][-600:]}"] if "Traceback" in said else []


def to_the_end(process: subprocess.Popen) -> tuple[str, int]:
    """Waits; what the process said, and its status. One that hangs is killed, and says so."""
    try:
        said, _ = process.communicate(timeout=HUNG_AFTER)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return process.communicate()[0] + f"\nhung: killed after {HUNG_AFTER:g} s", process.returncode
    return said, process.returncode


@dataclass(frozen=True)
class Whole:
    """The training that nothing happens to, made when it is first asked for.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @cached_property
    def seconds(self) -> float:
        """From its begin to its end, imports left out."""
        process = start(Fit(self.folder).command)
        said = until(process)
        begun = time.monotonic()
        rest, status = to_the_end(process)
        if status:
            raise RuntimeError(f"The training that nothing happens to failed:\n{said}{rest}")
        return time.monotonic() - begun

    @property
    def fit(self) -> Fit:
        """Its folders, once it is there."""
        assert self.seconds
        return Fit(self.folder)
