"""The folder of a run that begins or goes on, and what of its settings may have changed meanwhile."""

import json
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rdi_keras.cli.options import dump_config, read_config
from rdi_keras.errors import InputError
from rdi_keras.presets import Config

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rdi_keras.runs import RunFolder


def open_run(run: "RunFolder", config: Config, resume: bool) -> None:
    """Makes the folder of a new run, or notes that one is resumed.

    Args:
        run: its folder, locked by this process.
        config: of the run, as it is wanted now.
        resume: whether to go on with what is there.

    Raises:
        InputError: if a run is in the way, or one that is resumed had other settings or cannot be read.
    """
    from rdi_keras.cli.machine import environment
    from rdi_keras.files import read_json, write_text
    from rdi_keras.runs import CONFIG_FILE, ENVIRONMENT_FILE, RunFolder

    config_path, environment_path = run.path / CONFIG_FILE, run.path / ENVIRONMENT_FILE
    here = environment(config.seed)
    if resume and config_path.exists():
        run.check_no_links()
        _check_same(config, read_config(config_path), run)
        try:
            begun = read_json(environment_path) if environment_path.exists() else here
            if not isinstance(begun, dict) or not isinstance(begun.get("resumed", []), list):
                raise ValueError("it holds no fields")
        except ValueError as error:
            raise InputError(
                f"Cannot read {str(environment_path)!r}: {error}. It only tells what the run was started "
                "with: remove it, and resume again"
            ) from None
        if not run.is_finished:
            write_text(config_path, dump_config(config))
            here = begun | {"resumed": [*begun.get("resumed", []), here]}
            write_text(environment_path, json.dumps(here, indent=2) + "\n")
        return
    if run.is_finished and not config.overwrite:
        raise InputError(
            f"{str(run.path)!r} holds a finished run. Measure and export what is missing: --resume; or name "
            "another run: --name; or start anew: --overwrite true"
        )
    RunFolder.create(run.path, config.overwrite)
    # The configuration first: without it a folder that holds something is no run to go on with.
    write_text(config_path, dump_config(config))
    write_text(environment_path, json.dumps(here, indent=2) + "\n")


def _check_same(config: Config, begun: Config, run: "RunFolder") -> None:
    from rdi_keras.training import decisive_settings

    there = decisive_settings(begun)
    if run.is_finished:
        before = vars(begun.calibration)
        others = {name: value for name, value in vars(config.calibration).items() if value != before[name]}
        if others.get("temperature", 1) is None:
            raise InputError(
                f"{str(run.path)!r} is finished, and its exits were scaled, which stays: "
                f"calibration.temperature is {before['temperature']!r}. Received: None. Name that one, or "
                "train another run: --name"
            )
        if others:
            flags = " ".join(
                f"--calibration.{name} {'null' if value is None else shlex.quote(str(value))}"
                for name, value in others.items()
            )
            raise InputError(
                f"{str(run.path)!r} is finished, with {_listed(before, others)}. Received: "
                f"{_listed(others, others)}. Set thresholds anew without training: "
                f"{run.calibrate_command} {flags}"
            )
    for name, value in decisive_settings(config).items():
        if value != there[name]:
            raise InputError(
                f"A resumed run goes on with its own settings: {name} is {there[name]!r}. Received: {value!r}"
            )


def _listed(values: dict[str, Any], names: Iterable[str]) -> str:
    return ", ".join(f"calibration.{name} {values[name]!r}" for name in names)
