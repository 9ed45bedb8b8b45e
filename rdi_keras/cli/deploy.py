"""`training/deploy.py RUN --out RUN`: keeps the exits that pay on this machine, and sets their thresholds."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rdi_keras.cli.options import command, dump_config, parse, read_config
from rdi_keras.errors import InputError
from rdi_keras.runs import RunFolder

DESCRIPTION = (
    "Choose which exits to keep and where their thresholds stand, from measured time and held-out data, and "
    "write the smaller network as a run of its own. The test part is not looked at."
)
DEPLOYMENT_FILE = "deployment.json"
SIZES = (1, 32, 256)  # Batch sizes that are timed.


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Chooses a deployment of the run named on the command line."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(description=DESCRIPTION, exit_on_error=False)
    parser.add_argument("run", type=str, help="a run folder, runs/<name>")
    parser.add_argument("--out", type=str, required=True, help="the run folder to write")
    parser.add_argument("--engine", type=str, default="onnxruntime", help="onnxruntime or tensorflow")
    parser.add_argument("--num_threads", type=int | None, help="of ONNX Runtime; default: all cores")
    parser.add_argument("--batch_size", type=int, default=1, help="time counts at 1, 32 or 256")
    parser.add_argument("--suite", type=str, default="standard", help="the attack list that decides")
    parser.add_argument("--attacked", type=int, default=100, help="how many held-out samples are attacked")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.01,
        help="how far accuracy and worst case may lie below the last exit's",
    )
    parser.add_argument("--data_dir", type=str | None, help="folder of prepared TFDS sets")
    parser.add_argument("--overwrite", type=bool, default=False, help="whether to replace a finished run")
    deploy(parse(parser, argv))


def deploy(arguments: argparse.Namespace) -> RunFolder:
    """Chooses and writes; `arguments` as `main` parses them.

    Raises:
        InputError: if the run, its data or the new folder cannot be had, or an argument is not allowed.
    """
    import dataclasses
    import shutil

    import numpy as np
    from rich.console import Console

    from rdi_keras import evaluation
    from rdi_keras.cli.machine import prepare_devices
    from rdi_keras.deployment import choose_deployment
    from rdi_keras.inference import pareto_front
    from rdi_keras.names import parse_epsilon
    from rdi_keras.runs import CONFIG_FILE, ENVIRONMENT_FILE, TWIN_FILE
    from rdi_keras.serving.latency import measure_latency
    from rdi_keras.training import calibrate_budgets, calibration_facts, load_data
    from rdi_keras.training.robust_calibration import with_temperature

    prepare_devices()
    console = Console()
    source, out = RunFolder.open(arguments.run), Path(arguments.out)
    if out.resolve() == source.path.resolve():
        raise InputError(f"--out must be another folder than the run's. Received: {arguments.out!r} for both")
    if not arguments.overwrite:
        RunFolder(out).check_replaceable()
    config = read_config(source.path / CONFIG_FILE)
    config.data.data_dir = arguments.data_dir or config.data.data_dir
    epsilon = parse_epsilon(config.epsilon)
    evaluation.suite(arguments.suite, epsilon)
    dataset = load_data(config)
    held_out, model = dataset.calibration, source.load_model()
    temperature = source.read_calibration().get("temperature")
    latency = measure_latency(model, held_out.images, arguments.engine, arguments.num_threads, SIZES)
    chosen = choose_deployment(
        model,
        held_out,
        latency,
        arguments.suite,
        epsilon,
        arguments.batch_size,
        arguments.attacked,
        arguments.tolerance,
        config.seed,
        console.print,
    )

    kept = measure_latency(chosen.model, held_out.images, arguments.engine, arguments.num_threads, SIZES)
    size = arguments.batch_size
    milliseconds = kept.of_batch(size * np.asarray(chosen.point.exit_shares)) / size
    config.name, config.runs_dir, config.overwrite = out.name, str(out.parent), arguments.overwrite
    exits = list(chosen.point.exits)
    note = f"# Exits {exits} of {source.path.name!r}; what is said of the network is said of that run.\n"
    calibration = with_temperature(
        calibration_facts(chosen.model, held_out, f"deployed for {arguments.engine}"),
        temperature,
    )
    facts = {
        "source": {"run": source.path.name, "exits": exits},
        "chosen": dataclasses.asdict(chosen.point),
        "without_side_exits": dataclasses.asdict(chosen.points[0]),
        "suite": arguments.suite,
        "attacked": min(arguments.attacked, len(held_out)),
        "worst_case": chosen.worst_case,
        "last_exit_worst_case": chosen.last_exit_worst_case,
        "refused": [{**dataclasses.asdict(point), "by_suite": worst} for point, worst in chosen.refused],
        "front": [dataclasses.asdict(point) for point in pareto_front(chosen.points)],
        "latency": dataclasses.asdict(latency),
        "latency_deployed": dataclasses.asdict(kept),
        "batch_size": size,
        "mean_ms": milliseconds,
    }
    with RunFolder.creating(out, arguments.overwrite) as run:
        (run.path / CONFIG_FILE).write_text(note + dump_config(config))
        for name in (ENVIRONMENT_FILE, TWIN_FILE):
            if (source.path / name).exists():
                shutil.copy(source.path / name, run.path)
        (run.path / DEPLOYMENT_FILE).write_text(json.dumps(facts, indent=2) + "\n")
        run.finish(chosen.model, config, dataset, calibration, calibrate_budgets(chosen.model, held_out))
    console.print(
        f"exits {exits} of {model.num_exits}: accuracy {calibration['accuracy']:.3f}, worst case "
        f"{chosen.worst_case:.3f} (last exit alone {chosen.last_exit_worst_case:.3f}), "
        f"{100 * calibration['saving']:.1f} % of the MACs saved, {milliseconds:.3g} ms a sample against "
        f"{kept.plain_per_sample(size):.3g} without side exits, on held-out data\n"
        f"run: {run.path}\nnext: training/evaluate.py {run.path} --part test"
    )
    return run
