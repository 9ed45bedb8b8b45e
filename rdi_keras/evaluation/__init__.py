"""The attack suite and the report that is made of it."""

from rdi_keras.evaluation.cascade import Batch, Conditions, Shelf, run_suite
from rdi_keras.evaluation.curves import measure_curves
from rdi_keras.evaluation.figures import ALL_FIGURES, FIGURES, figure_names, write_figures
from rdi_keras.evaluation.flags import find_flags
from rdi_keras.evaluation.intervals import wilson
from rdi_keras.evaluation.matrix import matrix_table
from rdi_keras.evaluation.outcome import Outcome, efficacy, judge, worst_of
from rdi_keras.evaluation.report import JSON_FILE, build_report, read_report, validate, write_report
from rdi_keras.evaluation.shelf import FolderShelf
from rdi_keras.evaluation.suite import EVERYONE, STANDING, SUITES, Entry, suite
from rdi_keras.evaluation.tables import MARKDOWN_FILE, markdown, remarks, rich_table
from rdi_keras.evaluation.whole import write_whole

__all__ = [
    "ALL_FIGURES",
    "EVERYONE",
    "FIGURES",
    "JSON_FILE",
    "MARKDOWN_FILE",
    "STANDING",
    "SUITES",
    "Batch",
    "Conditions",
    "Entry",
    "FolderShelf",
    "Outcome",
    "Shelf",
    "build_report",
    "efficacy",
    "figure_names",
    "find_flags",
    "judge",
    "markdown",
    "matrix_table",
    "measure_curves",
    "read_report",
    "remarks",
    "rich_table",
    "run_suite",
    "suite",
    "validate",
    "wilson",
    "worst_of",
    "write_figures",
    "write_report",
    "write_whole",
]


def __dir__() -> list[str]:
    return __all__
