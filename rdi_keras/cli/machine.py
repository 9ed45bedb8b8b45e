"""What a run says of the machine and the software that it was made with."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from rdi_keras.metadata import package_version

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rdi_keras.defenses import RobustModel

PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy", "cleverhans")


def prepare_devices(deterministic: bool = False) -> str:
    """Turns memory growth on for every GPU and names what will compute.

    Args:
        deterministic: whether operations must give the same bits every time; for the rest of the process.
    """
    import tensorflow as tf

    if deterministic:
        tf.config.experimental.enable_op_determinism()

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return ", ".join(each.name for each in gpus) or f"CPU ({platform.machine()})"


def precision_line(name: str) -> str:
    """In what a training with `training.precision` of this name computes on this machine."""
    from rdi_keras.training.precision import precision_here

    here = precision_here(name)
    return f"precision: {name}" + ("" if here == name else f", on this CPU {here}")


def xla_line(model: "RobustModel") -> str:
    """Whether XLA compiles the training of a compiled model."""
    return f"XLA in training: {'on' if model.jit_compile else 'off'}"


def environment(seed: int) -> dict:
    """Package versions, git commit and seed, to be written beside a result."""
    return {
        "rdi_keras": package_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "seed": seed,
    }


def _git_commit() -> str | None:
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        # An installed copy may lie inside another project's checkout, whose commit says nothing of it.
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True)
        found = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
