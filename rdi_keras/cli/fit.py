"""`training/fit.py`: trains a model and its twin, measures both, and exports the model."""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from rdi_keras.cli.options import command, dump_config, load_config, parse_config
from rdi_keras.errors import InputError
from rdi_keras.presets import Config

DESCRIPTION = (
    "Train a robust multi-exit network and its one-exit twin, measure both on the test part, and "
    "export a SavedModel. Fields come from a preset, then --config, then flags."
)
RESUME = (
    "go on with the run of this name where it was cut; without one, start it: a command that may be repeated "
    "until it is done"
)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the configuration named on the command line from data to SavedModel."""
    parsed = parse_config(DESCRIPTION, argv, {"resume": RESUME})
    if parsed is not None:
        config, switches = parsed
        fit(config, switches["resume"])


def fit(config: Config, resume: bool = False, export: bool = True) -> Path:
    """Trains, evaluates and exports; returns the folder of the exported version, or the run's.

    Everything that a configuration can get wrong is found before the run folder is written.

    Args:
        config: of the run.
        resume: whether to go on with a run of this name, if there is one.
        export: whether to export what was measured on the test part.

    Raises:
        InputError: if the configuration is wrong, or another process works in the run folder.
        StoppedError: at SIGTERM or Ctrl-C, once the state is saved.
    """
    from rich.console import Console

    from rdi_keras.cli.machine import environment, prepare_devices, xla_line
    from rdi_keras.evaluation import suite
    from rdi_keras.names import parse_epsilon
    from rdi_keras.runs import CONFIG_FILE, ENVIRONMENT_FILE, RunFolder, make_folder
    from rdi_keras.training import StopRequest, build_model, calibrate, load_data

    console = Console()
    start = time.monotonic()
    devices = prepare_devices(config.training.deterministic)
    suite(config.evaluation.suite, parse_epsilon(config.epsilon))
    dataset = load_data(config)
    console.print(
        f"{dataset.name}: {len(dataset.train):,} images to train on, {len(dataset.calibration):,} held "
        f"out for calibration, {len(dataset.test):,} to test on"
    )
    model = build_model(config, dataset)
    console.print(f"devices: {devices}; precision: {model.dtype_policy.name}; {xla_line(model)}")
    calibrate(model, dataset.calibration, config.calibration)  # Finds impossible shares or budgets.

    make_folder(Path(config.saved_models_dir))
    run = RunFolder(Path(config.runs_dir, config.name))
    if run.path.is_file():
        raise InputError(f"{str(run.path)!r} exists and is no run folder. Name another one")
    with run.locked(), StopRequest() as stop:
        if resume and (run.path / CONFIG_FILE).exists():
            _check_same(config, load_config((run.path / CONFIG_FILE).read_text()))
        else:
            run = RunFolder.create(run.path, config.overwrite)
        (run.path / CONFIG_FILE).write_text(dump_config(config))
        (run.path / ENVIRONMENT_FILE).write_text(json.dumps(environment(config.seed), indent=2) + "\n")
        if run.is_finished:
            console.print("training is finished already")
        else:
            _train(run, model, config, dataset, stop, console)
        result = _measure_and_export(run, config, dataset, console, export)
    console.print(f"took: {time.monotonic() - start:.0f} s")
    return result


def _check_same(config: Config, begun: Config) -> None:
    from rdi_keras.training import decisive_settings

    there = decisive_settings(begun)
    for name, value in decisive_settings(config).items():
        if value != there[name]:
            raise InputError(
                f"A resumed run goes on with its own settings: {name} is {there[name]!r}. Received: {value!r}"
            )


def _train(run, model, config, dataset, stop, console) -> None:
    """The model and, if wanted, its twin; leaves a finished run."""
    from rdi_keras.runs import HISTORY_FILE, TWIN_FILE, TWIN_HISTORY_FILE
    from rdi_keras.training import (
        VALIDATION_SAMPLES,
        TrainingBoard,
        build_model,
        checkpoints_of,
        fit_model,
    )

    def fitted(network, part: str, history_file: str):
        checkpoints = checkpoints_of(config, dataset, run.checkpoints_path, part, console.print)
        with _step_progress(part, config.training.epochs) as bar:
            fit_model(
                network,
                config,
                dataset,
                [TrainingBoard(run.path / "logs" / part, dataset.calibration.first(VALIDATION_SAMPLES)), bar],
                checkpoints,
                stop,
                _history_writer(run.path / history_file, part, config.training.epochs, console),
            )
        return checkpoints

    states = [fitted(model, "model", HISTORY_FILE)]
    if config.twin:
        if config.model.trunk is None:
            twin = build_model(config, dataset, side_exits=False)
            states.append(fitted(twin, "twin", TWIN_HISTORY_FILE))
        else:  # A frozen network has nothing to train without its side heads.
            twin = model.keep_exits([model.num_exits])
        twin.save(run.path / TWIN_FILE)
    calibration, budgets = _calibrated(model, config, dataset.calibration, console)
    run.finish(model, config, dataset, calibration, budgets)
    for each in states:
        each.clear()
    with contextlib.suppress(OSError):  # Someone else's file may lie there.
        run.checkpoints_path.rmdir()


def _calibrated(model, config, held_out, console) -> tuple:
    """Sets the final thresholds; gives the facts, and the table of thresholds by budget."""
    from rdi_keras.names import parse_epsilon
    from rdi_keras.training import calibrate, calibrate_budgets, calibrate_robustly, robust_budget_table

    wanted = config.calibration
    if not wanted.attacked or model.num_exits == 1:
        return calibrate(model, held_out, wanted), calibrate_budgets(model, held_out)
    facts = calibrate_robustly(
        model,
        held_out,
        parse_epsilon(config.epsilon),
        wanted.budget,
        wanted.attacked,
        config.seed,
        console.print,
    )
    return facts, robust_budget_table(facts["front"])


def _measure_and_export(run, config, dataset, console, export: bool) -> Path:
    from rdi_keras.cli.evaluate import evaluate_run
    from rdi_keras.cli.export import export_run, exported_version
    from rdi_keras.evaluation import JSON_FILE

    # A report that is there is this model's: measuring again would be another look at the test part.
    if not (run.path / JSON_FILE).exists():
        evaluate_run(run, config, dataset)
    if not export:
        return run.path
    if config.evaluation.part != "test":
        console.print(f"run: {run.path}\nNot exported: that takes a report on the test part")
        return run.path
    folder = Path(config.saved_models_dir, config.name)
    version = exported_version(run, folder) or export_run(run, folder)
    console.print(f"run: {run.path}\nSavedModel: {version}")
    return version


def _history_writer(path: Path, part: str, epochs: int, console):
    """Writes the history after every epoch, and says ten times in a training how it goes."""
    import csv

    def write(history: list[dict]) -> None:
        aside = path.with_suffix(".part")
        with aside.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", *history[-1]], restval="")
            writer.writeheader()
            writer.writerows({"epoch": number, **row} for number, row in enumerate(history))
        aside.replace(path)
        if len(history) % max(epochs // 10, 1) == 0:
            logs = history[-1]
            accuracies = [
                f"{100 * value:.1f}"
                for name, value in logs.items()
                if name.startswith("val_") and name.endswith("_adversarial_accuracy")
            ]
            console.print(
                f"{part}, epoch {len(history)}/{epochs}: loss {logs['loss']:.3f}, "
                f"held out under attack {' / '.join(accuracies)} %"
            )

    return write


@contextlib.contextmanager
def _step_progress(part: str, epochs: int):
    """A context that gives a callback which shows how far an epoch is."""
    import keras
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        task = progress.add_task(part, total=None)

        def on_epoch(epoch: int, logs: dict | None = None) -> None:
            progress.update(task, completed=0, description=f"{part}, epoch {epoch + 1}/{epochs}")

        def on_step(step: int, logs: dict | None = None) -> None:
            progress.update(task, completed=step + 1, total=bar.params["steps"])

        bar = keras.callbacks.LambdaCallback(on_epoch_begin=on_epoch, on_train_batch_end=on_step)
        yield bar
