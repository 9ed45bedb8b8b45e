"""Writes all files of a report at once."""

import tempfile
from pathlib import Path

from rdi_keras.evaluation.figures import ALL_FIGURES, write_figures
from rdi_keras.evaluation.report import JSON_FILE, write_report
from rdi_keras.evaluation.tables import MARKDOWN_FILE, markdown
from rdi_keras.files import ASIDE


def write_whole(report: dict, folder: Path) -> None:
    """Writes report, table and figures in place of an earlier report's.

    Aside first: an interruption must not leave the figures of one report beside another's numbers.

    Args:
        report: as `build_report` makes it.
        folder: of a run.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=ASIDE) as aside:
        figures = write_figures(report, Path(aside))
        Path(aside, MARKDOWN_FILE).write_text(markdown(report, figures))
        write_report(report, Path(aside))
        for name in ALL_FIGURES:  # Those of an earlier report may be more.
            (folder / name).unlink(missing_ok=True)
        # The report itself last: where it is, everything is.
        for file in sorted(Path(aside).iterdir(), key=lambda each: each.name == JSON_FILE):
            file.replace(folder / file.name)
