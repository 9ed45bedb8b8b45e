"""`report.json`: one file with every figure of a model, checked against its schema."""

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rdi_keras.data import Dataset
from rdi_keras.errors import InputError
from rdi_keras.evaluation.cascade import Conditions
from rdi_keras.files import read_json, write_text
from rdi_keras.inference import CostTable, LatencyTable
from rdi_keras.metadata import Metadata

SCHEMA_VERSION = 1
JSON_FILE = "report.json"
"""Where a run folder or an exported version keeps its report."""


def build_report(
    metadata: Metadata,
    dataset: Dataset,
    part: str,
    num_samples: int,
    suite: str,
    seed: int,
    calibration: dict,
    test_evaluations: int,
    model: tuple[Conditions, CostTable],
    twin: tuple[Conditions, CostTable] | None,
    flags: list[dict],
    checks_left_out: Sequence[str] = (),
    curves: dict | None = None,
    second_opinions: dict | None = None,
    latency: LatencyTable | None = None,
) -> dict:
    """Puts a report together and checks it against the schema.

    Args:
        metadata: of the model.
        dataset: the data set.
        part: `test` or `calibration`; figures are of its first `num_samples`.
        num_samples: how many.
        suite: name of the attack list.
        seed: of the attacks.
        calibration: how the thresholds were chosen, and what they do on calibration data.
        test_evaluations: how often the test part has been looked at in this run folder.
        model: what the suite did to the model, and its cost.
        twin: the same of the backbone with one exit, if there is one.
        flags: of `find_flags`.
        checks_left_out: names of checks that could not be made.
        curves: of `measure_curves`.
        second_opinions: of attacks from other libraries.
        latency: of the model; conditions then have a `mean_ms`, at the smallest batch size measured.
    """
    conditions, cost = model
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "dataset": dataset.name,
        "split": f"{part}[:{num_samples}]",
        "n": num_samples,
        "epsilon": metadata.epsilon_value,
        "epsilon_text": metadata.epsilon,
        "norm": "linf",
        "seed": seed,
        "suite": suite,
        "preset": metadata.preset,
        "package_version": metadata.package_version,
        "model_digest": metadata.model_digest,
        "thresholds": metadata.thresholds,
        "macs_per_exit": cost.cumulative,
        "macs_per_exit_own_branch_only": cost.own_branch_only,
        "macs_backbone": cost.backbone,
        "conditions": _summaries(conditions, cost),
        "baseline": None,
        "flags": flags,
        "checks_left_out": list(checks_left_out),
        "curves": curves,
        "second_opinions": second_opinions,
        "latency": None if latency is None else dataclasses.asdict(latency),
        "calibration": calibration,
        "test_evaluations": test_evaluations,
    }
    if twin is not None:
        twin_conditions, twin_cost = twin
        report["baseline"] = {
            "thresholds": [],
            "macs_per_exit": twin_cost.cumulative,
            "macs_backbone": twin_cost.backbone,
            "conditions": _summaries(twin_conditions, twin_cost),
        }
    if latency is not None:
        ms_to_exit = latency.per_sample(latency.batch_sizes[0])
        for condition in report["conditions"].values():
            condition["mean_ms"] = float(np.dot(condition["exit_shares"], ms_to_exit))
    validate(report)
    return report


def _summaries(conditions: Conditions, cost: CostTable) -> dict:
    summaries = {name: each.summary(cost) for name, each in conditions.outcomes.items()}
    for name, attacked in conditions.attacked.items():
        forward, backward = conditions.passes[name]
        summaries[name] |= {"attacked": attacked, "forward_passes": forward, "backward_passes": backward}
    return summaries


@functools.cache
def _schema() -> dict:
    return json.loads(importlib.resources.files(__package__).joinpath("report.schema.json").read_text())


def validate(report: dict) -> None:
    """Checks a report against the schema and its own numbers.

    Raises:
        InputError: names the first field that does not fit.
    """
    import jsonschema

    try:
        jsonschema.validate(report, _schema())
    except jsonschema.ValidationError as error:
        where = "/".join(map(str, error.absolute_path)) or "the report"
        raise InputError(
            f"Not a report of schema version {SCHEMA_VERSION}: {where}: {error.message}"
        ) from None
    num_exits = len(report["macs_per_exit"])
    if len(report["thresholds"]) != num_exits - 1:
        raise InputError(
            f"A report of {num_exits} exits has {num_exits - 1} thresholds. Received: "
            f"{len(report['thresholds'])}"
        )
    for name, condition in report["conditions"].items():
        if len(condition["exit_shares"]) != num_exits:
            raise InputError(
                f"Condition {name} of a report with {num_exits} exits has {num_exits} exit shares. "
                f"Received: {len(condition['exit_shares'])}"
            )


def write_report(report: dict, folder: str | Path) -> Path:
    """Writes `report.json` into a folder and returns its path."""
    path = Path(folder, JSON_FILE)
    write_text(path, json.dumps(report, indent=2) + "\n")
    return path


def read_report(folder: str | Path, metadata: Metadata) -> dict:
    """Reads and checks the report of a folder.

    Args:
        folder: a run folder or a version folder.
        metadata: of the model that the report must be about.

    Raises:
        InputError: no report, not a report, or a report about another model.
    """
    path = Path(folder, JSON_FILE)
    try:
        report = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot read {str(path)!r}: {error}. Make it with training/evaluate.py RUN --part test"
        ) from None
    validate(report)
    if report["model_digest"] != metadata.model_digest:
        raise InputError(
            f"{str(path)!r} is a report for another model: it names weights "
            f"{report['model_digest'][:12]}, this model has {metadata.model_digest[:12]}. Make it anew "
            "with training/evaluate.py RUN --part test"
        )
    return report
