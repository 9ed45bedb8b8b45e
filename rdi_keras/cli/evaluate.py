"""`training/evaluate.py RUN`: measures a run's model and its twin, and writes the report."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdi_keras.cli.options import command, parse, read_config
from rdi_keras.cli.progress import conditions_bar, curves_bar, status
from rdi_keras.errors import InputError
from rdi_keras.presets import Config, EvaluationConfig
from rdi_keras.runs import RunFolder

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rdi_keras.data import Dataset, Split
    from rdi_keras.evaluation import Conditions, Entry, FolderShelf
    from rdi_keras.inference import CostTable, LatencyTable
    from rdi_keras.models import MultiExitModel

DESCRIPTION = (
    "Measure a trained run on the test part: report.json, report.md, figures, a table. Interrupted, the same "
    "command goes on where it stopped."
)
PARTS = ("test", "calibration")
ALL = "all"
MODEL, TWIN = "model", "one-exit twin"


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Evaluates the run folder named on the command line."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(description=DESCRIPTION, exit_on_error=False)
    parser.add_argument("run", type=str, help="a run folder, runs/<name>")
    parser.add_argument(
        "--part", type=str | None, help="test or calibration, which only prints; default: the run's own"
    )
    parser.add_argument("--suite", type=str | None, help="attack list; default: the run's own")
    parser.add_argument("--epsilon", type=str | None, help="budget; default: the run's own")
    parser.add_argument("--limit", type=int | None, help="only the first so many test samples")
    parser.add_argument("--batch_size", type=int | None, help="samples attacked at once")
    parser.add_argument("--curve_samples", type=int | None, help="samples for the curves; 0 for none")
    parser.add_argument("--engine", type=str | None, help="times the model: onnxruntime, tensorflow or none")
    parser.add_argument(
        "--second_opinions",
        type=list[str] | None,
        help="attacks of other libraries, e.g. [cleverhans_pgd,foolbox_pgd], or [all]",
    )
    parser.add_argument("--opinion_samples", type=int | None, help="samples that those are run on")
    parser.add_argument("--data_dir", type=str | None, help="folder of prepared TFDS sets")
    given = {name: value for name, value in vars(parse(parser, argv)).items() if value is not None}
    evaluate(given.pop("run"), **given)


def evaluate(path: str | Path, **changes: Any) -> dict:
    """Attacks a run's model and twin; prints the report and, for the test part, writes it.

    Args:
        path: of the run folder.
        **changes: what is to be other than in the run's configuration: fields of `EvaluationConfig`, such as
            `suite="full"`, `epsilon`, and `data_dir`.

    Returns:
        The report.

    Raises:
        InputError: if there is no finished run or no such field, another process works in its folder, the
            data cannot be had, or a value is not allowed.
    """
    allowed = ("epsilon", "data_dir", *EvaluationConfig.__annotations__)
    if unknown := sorted(set(changes) - set(allowed)):
        raise InputError(f"An evaluation has no setting {unknown[0]!r}. Allowed: {', '.join(allowed)}")

    from rdi_keras.cli.machine import prepare_devices
    from rdi_keras.runs import CONFIG_FILE
    from rdi_keras.training import load_data

    prepare_devices()
    run = RunFolder.open(path)
    config = read_config(run.path / CONFIG_FILE)
    if isinstance(opinions := changes.get("second_opinions"), str):
        changes["second_opinions"] = [opinions]
    config.epsilon = str(changes.pop("epsilon", config.epsilon))
    config.data.data_dir = changes.pop("data_dir", config.data.data_dir)
    config.evaluation = dataclasses.replace(config.evaluation, **changes)
    with run.locked():
        return evaluate_run(run, config, load_data(config))


def evaluate_run(run: RunFolder, config: Config, dataset: "Dataset") -> dict:
    """Attacks the run's model and twin; prints the report and, for the test part, writes it.

    Finished batches are kept in the run folder until the report is written, so that an interrupted evaluation
    goes on where it stopped.

    Args:
        run: a finished `RunFolder`.
        config: says part, suite, budget, number of samples and seed.
        dataset: the one that the run was trained on.

    Returns:
        The report.

    Raises:
        InputError: if part, suite or second opinions are unknown, or model and data do not fit each other.
    """
    from rich.console import Console

    from rdi_keras import evaluation
    from rdi_keras.evaluation import second_opinions
    from rdi_keras.metadata import Metadata
    from rdi_keras.model_files import load_model
    from rdi_keras.names import parse_epsilon
    from rdi_keras.runs import TWIN_FILE

    metadata = dataclasses.replace(Metadata.read(run.path), epsilon=str(config.epsilon))
    wanted, epsilon = config.evaluation, parse_epsilon(config.epsilon)
    suite = evaluation.suite(wanted.suite, epsilon)
    opinions = list(second_opinions.OPINIONS) if ALL in wanted.second_opinions else wanted.second_opinions
    second_opinions.check(opinions)
    if opinions and not epsilon:
        raise InputError("Second opinions need an epsilon above 0. Received: 0. Leave them out")
    model, calibration = run.load_model(), run.read_calibration()
    _check_fits(model, dataset)
    if wanted.part not in PARTS:
        raise InputError(f"Unknown part {wanted.part!r}. Allowed: {', '.join(PARTS)}")
    samples = getattr(dataset, wanted.part).first(wanted.limit)
    latency = _latency(model, samples, wanted.engine)
    twin_path = run.path / TWIN_FILE
    networks = {MODEL: model} | ({TWIN: load_model(twin_path)} if twin_path.exists() else {})
    shelves = _shelves(run, config, networks, samples, suite)
    if wanted.part == "test" and not len(shelves[MODEL]):
        run.count_test_evaluation(metadata.model_digest, wanted.suite)

    loops: dict[str, dict] = {title: {} for title in networks}
    measured = {
        title: _attacked(title, network, samples, suite, config, shelves[title], loops[title])
        for title, network in networks.items()
    }
    conditions, cost = measured[MODEL]
    about = config.seed, loops[MODEL]
    with status("looking for signs that the figures are not to be believed"):
        flags, left_out = evaluation.find_flags(
            model, model.thresholds.numpy(), samples, epsilon, conditions, networks.get(TWIN), *about
        )
    curves = _curves(model, samples, cost, config, loops[MODEL]) if wanted.curve_samples and epsilon else None
    answers = None
    if opinions:
        with status(f"second opinions: {', '.join(opinions)}"):
            few = samples.first(wanted.opinion_samples)
            answers = second_opinions.ask(
                opinions, model, few, model.thresholds.numpy(), epsilon, config.seed
            )
        flags += second_opinions.compare(answers, conditions)

    report = evaluation.build_report(
        metadata,
        dataset,
        wanted.part,
        len(samples),
        wanted.suite,
        config.seed,
        calibration,
        run.test_evaluations,
        measured[MODEL],
        measured.get(TWIN),
        flags,
        left_out,
        curves,
        answers,
        latency,
    )
    if wanted.part == "test":
        evaluation.write_whole(report, run.path)
    for shelf in shelves.values():
        shelf.clear()
    console = Console()
    console.print(evaluation.rich_table(report))
    for line in evaluation.remarks(report):
        console.print(line)
    return report


def _latency(model: "MultiExitModel", samples: "Split", engine: str) -> "LatencyTable | None":
    from rich.console import Console

    from rdi_keras.serving.engines import ONNXRUNTIME, TENSORFLOW
    from rdi_keras.serving.latency import measure_latency

    if engine == "none":
        return None
    with status("timing every exit"):
        try:
            return measure_latency(model, samples.images, engine)
        except InputError as error:  # A layer that the converter does not know costs no report.
            if engine != ONNXRUNTIME:
                raise
            Console().print(f"Timed in TensorFlow: {error}")
            return measure_latency(model, samples.images, TENSORFLOW)


def _attacked(
    title: str,
    network: "MultiExitModel",
    samples: "Split",
    suite: Sequence["Entry"],
    config: Config,
    shelf: "FolderShelf",
    loops: dict,
) -> "tuple[Conditions, CostTable]":
    """What the suite does to a network, and what its exits cost."""
    from rdi_keras import evaluation
    from rdi_keras.inference import cost_table

    with conditions_bar(title, len(samples), [entry.name for entry in suite]) as on_batch:
        conditions = evaluation.run_suite(
            network,
            network.thresholds.numpy(),
            samples,
            suite,
            config.evaluation.batch_size,
            config.seed,
            shelf,
            on_batch,
            loops,
        )
    return conditions, cost_table(network)


def _curves(
    model: "MultiExitModel", samples: "Split", cost: "CostTable", config: Config, loops: dict
) -> dict:
    from rdi_keras import evaluation
    from rdi_keras.names import parse_epsilon

    with curves_bar() as on_point:
        return evaluation.measure_curves(
            model,
            model.thresholds.numpy(),
            samples.first(config.evaluation.curve_samples),
            cost,
            parse_epsilon(config.epsilon),
            config.seed,
            config.evaluation.batch_size,
            on_point,
            loops,
        )


def _shelves(
    run: RunFolder,
    config: Config,
    networks: Mapping[str, "MultiExitModel"],
    samples: "Split",
    suite: Sequence["Entry"],
) -> dict[str, "FolderShelf"]:
    """Where finished batches of each network are kept: one shelf for all that the figures depend on."""
    import hashlib

    import tensorflow as tf

    from rdi_keras.evaluation import FolderShelf
    from rdi_keras.metadata import package_version, weights_digest

    about = {
        "networks": {title: weights_digest(network) for title, network in networks.items()},
        "software": [package_version(), tf.__version__],
        "images": hashlib.sha256(samples.images.tobytes() + samples.labels.tobytes()).hexdigest(),
        "suite": [f"{entry.name}: {entry.attack} on {entry.on}" for entry in suite],
        "batch_size": config.evaluation.batch_size,
        "seed": config.seed,
    }
    return {title: FolderShelf(run.evaluation_path, {**about, "network": title}) for title in networks}


def is_evaluated(run: RunFolder, config: Config, dataset: "Dataset") -> bool:
    """Whether the run's report is of its model, and of what the configuration wants measured."""
    from rdi_keras import evaluation
    from rdi_keras.metadata import Metadata

    wanted = config.evaluation
    if wanted.part != "test" or not (run.path / evaluation.JSON_FILE).exists():
        return False
    try:
        report = evaluation.read_report(run.path, Metadata.read(run.path))
    except InputError:
        return False
    number = len(dataset.test.first(wanted.limit))
    found = [report[name] for name in ("suite", "n", "seed", "epsilon_text")]
    return found == [wanted.suite, number, config.seed, config.epsilon]


def _check_fits(model: "MultiExitModel", dataset: "Dataset") -> None:
    if model.input_shape[1:] != dataset.input_shape or model.num_classes != dataset.num_classes:
        raise InputError(
            f"The model takes images of shape {model.input_shape[1:]} and knows {model.num_classes} "
            f"classes, but {dataset.name} has {dataset.input_shape} and {dataset.num_classes}"
        )
