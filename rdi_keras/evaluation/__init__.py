"""The attack suite and the report that is made of it."""

from rdi_keras.evaluation.figures import FIGURES, write_figures
from rdi_keras.evaluation.outcome import Outcome, judge, run_conditions, worst_of
from rdi_keras.evaluation.report import JSON_FILE, build_report, read_report, validate, write_report
from rdi_keras.evaluation.suite import SUITES, suite
from rdi_keras.evaluation.tables import MARKDOWN_FILE, markdown, rich_table

__all__ = [
    "FIGURES",
    "JSON_FILE",
    "MARKDOWN_FILE",
    "SUITES",
    "Outcome",
    "build_report",
    "judge",
    "markdown",
    "read_report",
    "rich_table",
    "run_conditions",
    "suite",
    "validate",
    "worst_of",
    "write_figures",
    "write_report",
]
