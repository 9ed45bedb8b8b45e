"""What a run says of the machine and the software that it was made with."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

from rdi_keras.metadata import package_version

PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy", "cleverhans")


def prepare_devices() -> str:
    """Turns memory growth on for every GPU and says, in a line, what will compute and how."""
    import keras
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    devices = ", ".join(each.name for each in gpus) or f"CPU ({platform.machine()})"
    return (
        f"devices: {devices}; precision: {keras.config.dtype_policy().name}; XLA: {'on' if gpus else 'off'}"
    )


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
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            [
                "git",
                "-C",
                str(here),
                "describe",
                "--always",
                "--dirty",
                "--abbrev=40",
                "--exclude=*",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
