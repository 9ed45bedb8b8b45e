"""`training/evaluate.py RUN`: measures a run's model and its twin, and writes the report."""

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdi_keras.cli.options import command, parse, read_config
from rdi_keras.cli.progress import conditions_bar, curves_bar, status
from rdi_keras.errors import InputError
from rdi_keras.files import ASIDE
from rdi_keras.presets import Config, EvaluationConfig
from rdi_keras.runs import RunFolder

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rdi_keras.data import Dataset, Split
    from rdi_keras.evaluation import Entry, FolderShelf
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
    parser.add_argument("--part", type=str | None, help="test or calibration; the latter only prints")
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
        InputError: if there is no finished run or no such field, the data cannot be had, or a value is not
            allowed.
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
    from rdi_keras.inference import CostTable, cost_table
    from rdi_keras.metadata import Metadata
    from rdi_keras.names import parse_epsilon
    from rdi_keras.runs import TWIN_FILE, load_model
    from rdi_keras.serving.latency import measure_latency

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
    latency = None
    if wanted.engine != "none":
        with status("timing every exit"):
            latency = measure_latency(model, samples.images, wanted.engine)
    twin_path = run.path / TWIN_FILE
    networks = {MODEL: model} | ({TWIN: load_model(twin_path)} if twin_path.exists() else {})
    shelves = _shelves(run, config, networks, samples, suite)
    if wanted.part == "test" and not len(shelves[MODEL]):
        run.count_test_evaluation(metadata.model_digest, wanted.suite)

    thresholds = model.thresholds.numpy()
    measured: dict[str, tuple[evaluation.Conditions, CostTable]] = {}
    loops: dict[str, dict] = {title: {} for title in networks}
    for title, network in networks.items():
        with conditions_bar(title, len(samples), [entry.name for entry in suite]) as on_batch:
            conditions = evaluation.run_suite(
                network,
                network.thresholds.numpy(),
                samples,
                suite,
                wanted.batch_size,
                config.seed,
                shelves[title],
                on_batch,
                loops[title],
            )
        measured[title] = conditions, cost_table(network)

    with status("looking for signs that the figures are not to be believed"):
        flags, left_out = evaluation.find_flags(
            model,
            thresholds,
            samples,
            epsilon,
            measured[MODEL][0],
            networks.get(TWIN),
            config.seed,
            loops[MODEL],
        )
    curves = None
    if wanted.curve_samples and epsilon:
        with curves_bar() as on_point:
            curves = evaluation.measure_curves(
                model,
                thresholds,
                samples.first(wanted.curve_samples),
                measured[MODEL][1],
                epsilon,
                config.seed,
                wanted.batch_size,
                on_point,
                loops[MODEL],
            )
    answers = None
    if opinions:
        with status(f"second opinions: {', '.join(opinions)}"):
            few = samples.first(wanted.opinion_samples)
            answers = second_opinions.ask(opinions, model, few, thresholds, epsilon, config.seed)
        flags += second_opinions.compare(answers, measured[MODEL][0])

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
        _write(report, run.path)
    shutil.rmtree(run.evaluation_path)
    console = Console()
    console.print(evaluation.rich_table(report))
    for line in evaluation.remarks(report):
        console.print(line)
    return report


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


def _write(report: dict, folder: Path) -> None:
    """Aside first: an interruption must not leave the figures of one report beside another's numbers."""
    from rdi_keras import evaluation

    with tempfile.TemporaryDirectory(dir=folder, prefix=ASIDE) as aside:
        figures = evaluation.write_figures(report, Path(aside))
        Path(aside, evaluation.MARKDOWN_FILE).write_text(evaluation.markdown(report, figures))
        evaluation.write_report(report, Path(aside))
        for name in evaluation.ALL_FIGURES:  # Those of an earlier report may be more.
            (folder / name).unlink(missing_ok=True)
        # The report itself last: where it is, everything is.
        for file in sorted(Path(aside).iterdir(), key=lambda each: each.name == evaluation.JSON_FILE):
            file.replace(folder / file.name)


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
