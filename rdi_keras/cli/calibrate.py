"""`training/calibrate.py RUN`: sets the thresholds of a trained run anew, from held-out data."""

import argparse
import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdi_keras.cli.options import command, dump_config, parse, read_config
from rdi_keras.errors import InputError
from rdi_keras.runs import RunFolder

DESCRIPTION = (
    "Set the thresholds of a trained run anew, from held-out data; with a temperature, the scale of its "
    "logits too. The test part is not looked at; measure with training/evaluate.py afterwards."
)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Calibrates the run named on the command line."""
    import jsonargparse

    from rdi_keras.presets import CalibrationConfig

    # What is not named is the run's own.
    parser = jsonargparse.ArgumentParser(description=DESCRIPTION, exit_on_error=False)
    parser.add_argument("run", type=str, help="a run folder, runs/<name>")
    for name, kind in CalibrationConfig.__annotations__.items():
        parser.add_argument(
            f"--calibration.{name}",
            type=kind,
            default=argparse.SUPPRESS,
            help="as of fit.py; default: the run's",
        )
    parser.add_argument("--data_dir", type=str | None, help="folder of prepared TFDS sets")
    arguments = parse(parser, argv)
    named = vars(arguments.get("calibration", argparse.Namespace()))
    calibrate_run(RunFolder.open(arguments.run), named, arguments.data_dir)


def _with_excluded(named: dict[str, Any]) -> dict[str, Any]:
    """Shares exclude a budget and attacks: what is named now stands, not what the run had."""
    if named.get("shares") or named.get("attacked") == 0:
        named = {"attacked": 0, "accuracy": None} | named
    if named.get("shares"):
        return named
    return {"shares": None} | named if "budget" in named or named.get("attacked") else named


def calibrate_run(run: RunFolder, named: dict[str, Any], data_dir: str | Path | None = None) -> dict:
    """Sets a run's thresholds and writes model, metadata, configuration and facts; returns the facts.

    Args:
        run: finished.
        named: fields of `CalibrationConfig` that are to be others than the run's.
        data_dir: folder of prepared TFDS sets; default: the run's own.

    Raises:
        InputError: if its data cannot be had, or no thresholds are as wanted.
    """
    from rich.console import Console

    from rdi_keras.cli.machine import prepare_devices
    from rdi_keras.metadata import weights_digest
    from rdi_keras.runs import CONFIG_FILE
    from rdi_keras.training import calibrate_finally, load_data

    prepare_devices()
    console = Console()
    with run.locked():
        config = read_config(run.path / CONFIG_FILE)
        if config.calibration.temperature is not None and named.get("temperature", 1) is None:
            raise InputError(
                f"The exits of {str(run.path)!r} were scaled, which stays. Received: calibration.temperature "
                "null. Name 1 for exits that are calibrated and no surer, or train again for unscaled ones"
            )
        config.calibration = dataclasses.replace(config.calibration, **_with_excluded(named))
        config.data.data_dir = str(data_dir) if data_dir else config.data.data_dir
        dataset, model = load_data(config), run.model_to_calibrate()
        replaced = weights_digest(model)
        facts, budgets = calibrate_finally(model, config, dataset.calibration, console.print)
        with contextlib.suppress(InputError):  # It may be what is mended here.
            if seconds := run.read_calibration().get("training_seconds"):
                facts["training_seconds"] = seconds
        run.finish(model, config, dataset, facts, budgets, dump_config(config), replaced)
    limits = ", ".join(f"{each:.4g}" for each in model.thresholds.numpy())
    console.print(
        f"thresholds {limits} nats: on held-out data accuracy {facts['accuracy']:.3f}, "
        f"{100 * facts['saving']:.1f} % of the MACs saved\nnext: training/evaluate.py {run.path} --part test"
    )
    return facts
