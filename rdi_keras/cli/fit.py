"""`training/fit.py`: trains a model and its twin, measures both, and exports the model."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rdi_keras.cli.options import command, parse_config
from rdi_keras.errors import InputError
from rdi_keras.presets import Config

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rich.console import Console

    from rdi_keras.data import Dataset
    from rdi_keras.defenses import RobustModel
    from rdi_keras.runs import RunFolder
    from rdi_keras.training import Cluster, StopRequest

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

    from rdi_keras.cli.machine import precision_line, prepare_devices, xla_line
    from rdi_keras.cli.resuming import open_run
    from rdi_keras.evaluation import suite
    from rdi_keras.files import make_folder
    from rdi_keras.names import parse_epsilon
    from rdi_keras.runs import RunFolder
    from rdi_keras.training import StopRequest, build_model, calibrate, join_cluster, load_data

    if resume and config.overwrite:
        raise InputError("--resume goes on with a run, --overwrite true starts it anew. Received: both")
    start = time.monotonic()
    devices = prepare_devices(config.training.deterministic)
    run = RunFolder(Path(config.runs_dir, config.name))
    trained = resume and run.is_finished
    cluster = join_cluster(config.strategy, trained)
    console = Console(quiet=not cluster.is_chief)
    suite(config.evaluation.suite, parse_epsilon(config.epsilon))
    dataset = load_data(config)
    console.print(
        f"{dataset.name}: {len(dataset.train):,} images to train on, {len(dataset.calibration):,} held "
        f"out for calibration, {len(dataset.test):,} to test on"
    )
    _check_sources(config, run)
    model = None
    if not trained:
        with cluster.strategy.scope():
            model = build_model(config, dataset)
            if config.twin and config.model.weights:
                build_model(config, dataset, side_exits=False)  # Finds one that is missing or does not fit.
        together = f", {cluster.num_replicas} together" if cluster.num_replicas > 1 else ""
        precision = precision_line(config.training.precision)
        console.print(f"devices: {devices}{together}; {precision}; {xla_line(model)}")
        calibrate(model, dataset.calibration, config.calibration)  # Finds impossible shares or budgets.

    if not cluster.is_chief:
        cluster.wait_for_all()  # Until the chief has made or cleared the folder.
        if model is not None:
            _train(run, model, config, dataset, None, console, cluster)
        return run.path
    make_folder(Path(config.saved_models_dir))
    if run.path.exists() and not run.path.is_dir():
        raise InputError(f"{str(run.path)!r} exists and is no run folder. Name another one")
    with run.locked(), StopRequest() as stop:
        open_run(run, config, resume)
        cluster.wait_for_all()
        if model is None or run.is_finished:  # Or another process has finished it since.
            console.print("training is finished already")
        else:
            _train(run, model, config, dataset, stop, console, cluster)
        result = _measure_and_export(run, config, dataset, console, export)
    console.print(f"took: {time.monotonic() - start:.0f} s")
    return result


def _check_sources(config: Config, run: "RunFolder") -> None:
    """What a run starts from must outlive its start."""
    for name in ("trunk", "weights"):
        source = getattr(config.model, name)
        if source and Path(source).resolve() == run.path.resolve():
            raise InputError(
                f"model.{name} names the run's own folder, {source!r}, which a new run clears. Name this run "
                "otherwise: --name"
            )


def _train(
    run: "RunFolder",
    model: "RobustModel",
    config: Config,
    dataset: "Dataset",
    stop: "StopRequest | None",
    console: "Console",
    cluster: "Cluster",
) -> None:
    """The model and, if wanted, its twin; leaves a finished run, if this process is the chief."""
    from rdi_keras.cli.progress import history_writer, step_progress
    from rdi_keras.model_files import save_model
    from rdi_keras.runs import HISTORY_FILE, TWIN_FILE, TWIN_HISTORY_FILE
    from rdi_keras.training import (
        VALIDATION_SAMPLES,
        Checkpoints,
        TrainingBoard,
        build_model,
        calibrate_finally,
        checkpoints_of,
        fit_model,
    )

    say, seconds = console.print, dict[str, int]()
    states: list[Checkpoints] = []

    def fitted(part: str, history_file: str, network: "RobustModel | None" = None) -> "RobustModel":
        if network is None:
            with cluster.strategy.scope():
                network = build_model(config, dataset, side_exits=part == "model")
        checkpoints = checkpoints_of(config, dataset, run.checkpoints_path, part, say, cluster)
        shown = dataset.calibration.first(VALIDATION_SAMPLES)
        board = [TrainingBoard(run.path / "logs" / part, shown, say)] if cluster.is_chief else []
        write = history_writer(run.path / history_file, part, config.training.epochs, say)
        with step_progress(part, config.training.epochs, console) as bar:
            progress = fit_model(
                network,
                config,
                dataset,
                [*board, bar],
                checkpoints,
                stop,
                write if cluster.is_chief else lambda history: None,
                cluster,
                say,
            )
        seconds[part] = round(progress.seconds)
        states.append(checkpoints)
        if cluster.num_replicas > 1:  # From here on one device is enough.
            trained, network = network, build_model(config, dataset, side_exits=part == "model")
            network.set_weights(trained.get_weights())
        return network

    model = fitted("model", HISTORY_FILE, model)
    # A frozen network has nothing to train without its side heads.
    if config.twin and config.model.trunk is None:
        twin = fitted("twin", TWIN_HISTORY_FILE)
    else:
        twin = model.keep_exits([model.num_exits])
    if not cluster.is_chief:
        return
    if config.twin:
        with _writing(run):  # Before the exits of the model, which it may share, are scaled.
            save_model(twin, run.path / TWIN_FILE)
    try:
        calibration, budgets = calibrate_finally(model, config, dataset.calibration, say)
    except InputError as error:
        raise InputError(
            f"{error}. What was trained is kept: the same command with --resume and another "
            "--calibration.accuracy or --calibration.temperature (null: any, none); training/calibrate.py "
            "then takes another budget"
        ) from None
    with _writing(run):
        run.finish(model, config, dataset, calibration | {"training_seconds": seconds}, budgets)
    for each in states:
        each.clear()
    with contextlib.suppress(OSError):  # Someone else's file may lie there.
        run.checkpoints_path.rmdir()


@contextlib.contextmanager
def _writing(run: "RunFolder") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"Cannot write the trained model to {str(run.path)!r}: {error.strerror or error}. Mend that, "
            "then go on: the same command with --resume"
        ) from None


def _measure_and_export(
    run: "RunFolder", config: Config, dataset: "Dataset", console: "Console", export: bool
) -> Path:
    from rdi_keras.cli.evaluate import evaluate_run, is_evaluated
    from rdi_keras.cli.export import export_run, exported_version

    run.check_calibrated()
    # What was measured as wanted is not measured again: that would be another look at the test part.
    if not is_evaluated(run, config, dataset):
        evaluate_run(run, config, dataset)
    if not export:
        return run.path
    if config.evaluation.part != "test":
        console.print(
            f"run: {run.path}\nNot exported: that takes a report on the test part. Make it with "
            f"training/evaluate.py {run.path} --part test, then training/export.py {run.path}"
        )
        return run.path
    folder = Path(config.saved_models_dir, config.name)
    version = exported_version(run, folder) or export_run(run, folder)
    console.print(f"run: {run.path}\nSavedModel: {version}")
    return version


if __name__ == "__main__":
    raise SystemExit(main())
