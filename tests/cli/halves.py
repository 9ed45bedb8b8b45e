"""Flags of runs that take seconds."""

NO_EXTRAS = ["--curve_samples=0", "--engine=none"]
FAST = [
    *("--training.epochs=2", "--training.attack.num_steps=2"),
    *("--evaluation.suite=quick", "--evaluation.curve_samples=0"),
]


def where(folder, name="halves"):
    """Flags that put a run, and what is exported of it, into a folder."""
    return [f"--name={name}", f"--runs_dir={folder}/runs", f"--saved_models_dir={folder}/saved_models"]
