"""`training/evaluate.py RUN`: measures a run's model and its twin, and writes the report."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rdi_keras.cli.options import command, load_config, parse
from rdi_keras.errors import InputError
from rdi_keras.presets import Config
from rdi_keras.runs import RunFolder

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rdi_keras.data import Dataset

DESCRIPTION = "Measure a trained run on the test part: report.json, report.md, figures, a table."
PARTS = ("test", "calibration")


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Evaluates the run folder named on the command line."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(description=DESCRIPTION, exit_on_error=False)
    parser.add_argument("run", type=str, help="a run folder, runs/<name>")
    parser.add_argument("--part", type=str | None, help="test or calibration; the latter only prints")
    parser.add_argument("--suite", type=str | None, help="attack list; default: the run's own")
    parser.add_argument("--epsilon", type=str | None, help="budget; default: the run's own")
    parser.add_argument("--limit", type=int | None, help="only the first so many test samples")
    parser.add_argument("--data_dir", type=str | None, help="folder of prepared TFDS sets")
    arguments = parse(parser, argv)

    from rdi_keras.cli.machine import prepare_devices
    from rdi_keras.runs import CONFIG_FILE
    from rdi_keras.training import load_data

    prepare_devices()

    run = RunFolder.open(arguments.run)
    config = load_config((run.path / CONFIG_FILE).read_text())
    targets = {
        "part": config.evaluation,
        "suite": config.evaluation,
        "limit": config.evaluation,
        "epsilon": config,
        "data_dir": config.data,
    }
    for name, target in targets.items():
        if arguments[name] is not None:
            setattr(target, name, arguments[name])
    evaluate_run(run, config, load_data(config))


def evaluate_run(run: RunFolder, config: Config, dataset: "Dataset") -> dict:
    """Attacks the run's model and twin; prints the report and, for the test part, writes it.

    Args:
        run: a finished `RunFolder`.
        config: says part, suite, budget, number of samples and seed.
        dataset: the one that the run was trained on.

    Returns:
        The report.

    Raises:
        InputError: if part or suite are unknown, or model and data do not fit each other.
    """
    import dataclasses

    from rich.console import Console

    from rdi_keras import evaluation
    from rdi_keras.inference import cost_table
    from rdi_keras.metadata import Metadata
    from rdi_keras.names import parse_epsilon
    from rdi_keras.runs import TWIN_FILE, load_model

    metadata = dataclasses.replace(Metadata.read(run.path), epsilon=config.epsilon)
    attacks = evaluation.suite(config.evaluation.suite, parse_epsilon(config.epsilon))
    model, calibration = run.load_model(), run.read_calibration()
    _check_fits(model, dataset)
    part = config.evaluation.part
    if part not in PARTS:
        raise InputError(f"Unknown part {part!r}. Allowed: {', '.join(PARTS)}")
    samples = getattr(dataset, part).first(config.evaluation.limit)
    twin_path = run.path / TWIN_FILE
    twin = load_model(twin_path) if twin_path.exists() else None

    def outcomes_of(network, title):
        with _progress(title, samples, config.evaluation.batch_size, attacks) as on_batch:
            return evaluation.run_conditions(
                network,
                network.thresholds.numpy(),
                samples,
                attacks,
                config.evaluation.batch_size,
                config.seed,
                on_batch,
            )

    if part == "test":
        run.count_test_evaluation(metadata.model_digest, config.evaluation.suite)
    outcomes = outcomes_of(model, "model")
    report = evaluation.build_report(
        metadata,
        dataset,
        part,
        len(samples),
        config.evaluation.suite,
        config.seed,
        calibration,
        run.test_evaluations,
        outcomes,
        cost_table(model),
        {name: list(attack.passes(model.num_exits, model.num_classes)) for name, attack in attacks.items()},
        twin and (outcomes_of(twin, "one-exit twin"), cost_table(twin)),
    )
    if part == "test":
        _write(report, run.path)
    console = Console()
    console.print(evaluation.rich_table(report))
    total = [len(samples) * sum(each) for each in zip(*report["passes_per_sample"].values(), strict=True)]
    console.print(f"passes through the model: {total[0]:,} forward, {total[1]:,} backward")
    return report


def _write(report: dict, folder: Path) -> None:
    """Aside first: an interruption must not leave the figures of one report beside another's numbers."""
    from rdi_keras import evaluation

    with tempfile.TemporaryDirectory(dir=folder) as aside:
        figures = evaluation.write_figures(report, Path(aside))
        Path(aside, evaluation.MARKDOWN_FILE).write_text(evaluation.markdown(report, figures))
        evaluation.write_report(report, Path(aside))
        for file in Path(aside).iterdir():
            file.replace(folder / file.name)


def _check_fits(model, dataset) -> None:
    if model.input_shape[1:] != dataset.input_shape or model.num_classes != dataset.num_classes:
        raise InputError(
            f"The model takes images of shape {model.input_shape[1:]} and knows {model.num_classes} "
            f"classes, but {dataset.name} has {dataset.input_shape} and {dataset.num_classes}"
        )


def _progress(title: str, samples, batch_size: int, attacks):
    """A context that shows a bar, and gives the function that moves it on after a batch."""
    import contextlib
    import math

    from rich.progress import Progress

    @contextlib.contextmanager
    def shown():
        batches = math.ceil(len(samples) / batch_size) * (len(attacks) + 1)
        with Progress(transient=True) as progress:
            task = progress.add_task(title, total=batches)

            def on_batch(condition: str) -> None:
                progress.update(task, advance=1, description=f"{title}: {condition}")

            yield on_batch

    return shown()
