"""`training/matrix.py`: every defence against every attack, on one data set."""

import json
from collections.abc import Sequence
from pathlib import Path

from rdi_keras.cli.options import command, parse_config
from rdi_keras.errors import InputError
from rdi_keras.presets import Config
from rdi_keras.presets.defences import DEFENCES, with_defence

DESCRIPTION = (
    "Train the same network with one defence after the other, otherwise with the same settings, attack each "
    "with every attack of the list, and write the table of the paper. Each defence is a run of its own, "
    "NAME-DEFENCE; the same command goes on where it was cut."
)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Makes the matrix that the command line describes."""
    parsed = parse_config(
        DESCRIPTION,
        argv,
        options={
            "defences": (",".join(DEFENCES), "which, separated by commas"),
            "out": ("", "Markdown file to write; default: matrix.md in the first run's folder"),
        },
    )
    if parsed is not None:
        config, given = parsed
        make_matrix(config, given["defences"].split(","), given["out"])


def make_matrix(config: Config, defences: Sequence[str], out: str = "") -> Path:
    """Trains and measures every defence; returns the file that the table was written to.

    Args:
        config: of every run, but for its name and what the defence changes.
        defences: names from `DEFENCES`.
        out: the file; empty for the default.

    Raises:
        InputError: if there is no such defence, the configuration is wrong, or the file cannot be written.
    """
    from rdi_keras.cli.fit import fit
    from rdi_keras.evaluation import JSON_FILE, matrix_table
    from rdi_keras.files import make_folder

    if config.evaluation.part != "test":
        raise InputError(
            f"A matrix is measured on the test part. Received: evaluation.part={config.evaluation.part!r}"
        )
    configs = {name: with_defence(config, name) for name in defences}
    path = Path(out) if out else Path(config.runs_dir, f"{config.name}-{defences[0]}", "matrix.md")
    if path.is_dir():
        raise InputError(f"The table is a file. Received the folder {str(path)!r}: name a file in it")
    if out:
        make_folder(path.parent)
    reports = {}
    for name, each in configs.items():
        each.name, each.twin = f"{config.name}-{name}", False
        folder = fit(each, resume=not each.overwrite, export=False)
        reports[name] = json.loads((folder / JSON_FILE).read_text())
    path.write_text(matrix_table(reports))
    print(f"{matrix_table(reports)}\nwritten to {path}")
    return path
