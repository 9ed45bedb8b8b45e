"""`training/fit.py`: trains a model and its twin, measures both, and exports the model."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from rdi_keras.cli.options import command, dump_config, parse_config
from rdi_keras.presets import Config

DESCRIPTION = (
    "Train a robust multi-exit network and its one-exit twin, measure both on the test part, and "
    "export a SavedModel. Fields come from a preset, then --config, then flags."
)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the configuration named on the command line from data to SavedModel."""
    config = parse_config(DESCRIPTION, argv)
    if config is not None:
        fit(config)


def fit(config: Config) -> Path:
    """Trains, evaluates and exports; returns the folder of the exported version, or the run's.

    Everything that a configuration can get wrong is found before the run folder is written.
    """
    from rich.console import Console

    from rdi_keras import evaluation
    from rdi_keras.cli.evaluate import evaluate_run
    from rdi_keras.cli.export import export_run
    from rdi_keras.cli.machine import environment, prepare_devices, xla_line
    from rdi_keras.names import parse_epsilon
    from rdi_keras.runs import (
        CONFIG_FILE,
        ENVIRONMENT_FILE,
        HISTORY_FILE,
        TWIN_FILE,
        TWIN_HISTORY_FILE,
        RunFolder,
        make_folder,
    )
    from rdi_keras.training import build_model, calibrate, calibrate_budgets, fit_model, load_data

    console = Console()
    start = time.monotonic()
    devices = prepare_devices()
    evaluation.suite(config.evaluation.suite, parse_epsilon(config.epsilon))
    dataset = load_data(config)
    console.print(
        f"{dataset.name}: {len(dataset.train):,} images to train on, {len(dataset.calibration):,} held "
        f"out for calibration, {len(dataset.test):,} to test on"
    )
    model = build_model(config, dataset)
    console.print(f"devices: {devices}; precision: {model.dtype_policy.name}; {xla_line(model)}")
    calibrate(model, dataset.calibration, config.calibration)  # Finds impossible shares or budgets.

    make_folder(Path(config.saved_models_dir))
    run = RunFolder.create(Path(config.runs_dir, config.name), config.overwrite)
    (run.path / CONFIG_FILE).write_text(dump_config(config))
    (run.path / ENVIRONMENT_FILE).write_text(json.dumps(environment(config.seed), indent=2) + "\n")

    fit_model(model, config, dataset, _callbacks(run, "model", HISTORY_FILE, config, console))
    if config.twin:
        if config.model.trunk is None:
            twin = build_model(config, dataset, side_exits=False)
            fit_model(twin, config, dataset, _callbacks(run, "twin", TWIN_HISTORY_FILE, config, console))
        else:  # A frozen network has nothing to train without its side heads.
            twin = model.keep_exits([model.num_exits])
        twin.save(run.path / TWIN_FILE)
    calibration = calibrate(model, dataset.calibration, config.calibration)
    run.finish(model, config, dataset, calibration, calibrate_budgets(model, dataset.calibration))

    evaluate_run(run, config, dataset)
    if config.evaluation.part != "test":
        console.print(f"run: {run.path}\nNot exported: that takes a report on the test part")
        return run.path
    version = export_run(run, Path(config.saved_models_dir, config.name))
    console.print(f"run: {run.path}\nSavedModel: {version}\ntook: {time.monotonic() - start:.0f} s")
    return version


def _callbacks(run, part: str, history_file: str, config, console) -> list:
    import keras

    def say(epoch: int, logs: dict) -> None:
        if (epoch + 1) % max(config.training.epochs // 10, 1) == 0:
            accuracies = [
                f"{100 * value:.1f}"
                for name, value in logs.items()
                if name.startswith("val_") and name.endswith("_adversarial_accuracy")
            ]
            console.print(
                f"{part}, epoch {epoch + 1}/{config.training.epochs}: loss {logs['loss']:.3f}, "
                f"held out under attack {' / '.join(accuracies)} %"
            )

    return [
        keras.callbacks.CSVLogger(run.path / history_file),
        keras.callbacks.TensorBoard(run.path / "logs" / part, write_graph=False),
        keras.callbacks.ModelCheckpoint(run.path / "checkpoints" / f"{part}.keras"),
        keras.callbacks.LambdaCallback(on_epoch_end=say),
    ]
