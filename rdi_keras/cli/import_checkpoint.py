"""`training/import_checkpoint.py PATH`: makes a run of a published PyTorch checkpoint."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rdi_keras.cli.options import command, dump_config, parse
from rdi_keras.presets import CalibrationConfig, Config, DataConfig, EvaluationConfig, ModelConfig

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rdi_keras.runs import RunFolder

DESCRIPTION = (
    "Read a PyTorch checkpoint of the paper's networks into a run that evaluates, exports and opens in the "
    "app like any other. The file is read as tensors alone: it can run no code."
)
PRESET = "imported"


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Imports the checkpoint named on the command line."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(description=DESCRIPTION, exit_on_error=False)
    parser.add_argument("path", type=str, help="the checkpoint, a .pth or .pth.tar file")
    parser.add_argument("--arch", type=str, default="resnet38", help="resnet20 to resnet110, or mobilenet_v2")
    parser.add_argument("--out", type=str, default="runs/published", help="the run folder to write")
    parser.add_argument("--data", type=str, default="cifar10", help="the data set that it was trained on")
    parser.add_argument("--data_dir", type=str | None, help="folder of prepared TFDS sets")
    parser.add_argument(
        "--calibration_pool",
        type=str | None,
        help="positions in the train split to calibrate on, e.g. 0:4000",
    )
    parser.add_argument("--epsilon", type=str, default="8/255", help="the budget it was trained against")
    parser.add_argument(
        "--budget",
        type=float | None,
        help="thresholds for this mean compute, as a fraction of the backbone's; default: an equal share of "
        "samples for every exit, as in the paper",
    )
    parser.add_argument("--overwrite", type=bool, default=False, help="whether to replace a finished run")
    arguments = parse(parser, argv)

    out = Path(arguments.out)
    config = Config(
        preset=PRESET,
        name=out.name,
        epsilon=arguments.epsilon,
        twin=False,
        runs_dir=str(out.parent),
        overwrite=arguments.overwrite,
        data=DataConfig(
            name=arguments.data,
            data_dir=arguments.data_dir,
            calibration_pool=arguments.calibration_pool,
        ),
        model=ModelConfig(backbone=arguments.arch),
        calibration=CalibrationConfig() if arguments.budget is None else CalibrationConfig(arguments.budget),
        evaluation=EvaluationConfig(limit=1000),
    )
    import_run(Path(arguments.path), config, equal_shares=arguments.budget is None)


def import_run(path: Path, config: Config, equal_shares: bool) -> "RunFolder":
    """Writes a calibrated run; everything is checked before the run folder is touched.

    Args:
        path: of the checkpoint.
        config: names architecture, data, run folder and calibration.
        equal_shares: whether to calibrate for an equal share of samples per exit.

    Returns:
        The finished `RunFolder`.

    Raises:
        InputError: if the checkpoint does not fit, or data or run folder cannot be had.
    """
    from rich.console import Console

    from rdi_keras.cli.machine import environment, prepare_devices
    from rdi_keras.errors import InputError
    from rdi_keras.models.pytorch import ARCHITECTURES, load_weights, read_checkpoint
    from rdi_keras.names import parse_epsilon
    from rdi_keras.runs import CONFIG_FILE, ENVIRONMENT_FILE, RunFolder
    from rdi_keras.training import build_model, calibrate, calibrate_budgets, load_data

    prepare_devices()
    parse_epsilon(config.epsilon)
    architecture = config.model.backbone
    if architecture not in ARCHITECTURES:
        raise InputError(f"Unknown architecture {architecture!r}. Allowed: {', '.join(ARCHITECTURES)}")
    state = read_checkpoint(path)
    dataset = load_data(config)
    model = build_model(config, dataset)
    load_weights(model, architecture, state)
    if equal_shares:
        config.calibration.shares = [1 / model.num_exits] * model.num_exits
    calibration = calibrate(model, dataset.calibration, config.calibration)

    note = f"# Weights from {path.name!r}; what is said of training below was not used.\n"
    source = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    here = environment(config.seed) | {"checkpoint": source}
    with RunFolder.creating(Path(config.runs_dir, config.name), config.overwrite) as run:
        (run.path / CONFIG_FILE).write_text(note + dump_config(config))
        (run.path / ENVIRONMENT_FILE).write_text(json.dumps(here, indent=2) + "\n")
        run.finish(model, config, dataset, calibration, calibrate_budgets(model, dataset.calibration))
    Console().print(
        f"{architecture}: {model.num_exits} exits, calibrated on {calibration['n']:,} images of "
        f"{dataset.name}: accuracy {100 * calibration['accuracy']:.1f} %, "
        f"{100 * calibration['saving']:.1f} % saved\n"
        f"run: {run.path}\nnext: training/evaluate.py {run.path} --part test"
    )
    return run
