"""`training/export.py RUN`: writes a run's model as the next version of a SavedModel."""

from collections.abc import Sequence
from pathlib import Path

from rdi_keras.cli.options import command, parse
from rdi_keras.runs import RunFolder

DESCRIPTION = "Export a trained run as the next version of a SavedModel for TensorFlow Serving."


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Exports the run folder named on the command line."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(description=DESCRIPTION, exit_on_error=False)
    parser.add_argument("run", type=str, help="a run folder, runs/<name>")
    parser.add_argument("--out", type=str | None, help="folder of versions; default: saved_models/<name>")
    parser.add_argument("--weights", type=str, default="float32", help="float32, or float16: rounded")
    parser.add_argument("--fold", type=bool, default=True, help="whether to fold BatchNorms")
    arguments = parse(parser, argv)

    run = RunFolder.open(arguments.run)
    target = arguments.out or Path("saved_models", run.path.resolve().name)
    print(f"SavedModel: {export_run(run, Path(target), arguments.fold, arguments.weights)}")


def export_run(run: RunFolder, folder: Path, fold: bool = True, weights: str = "float32") -> Path:
    """Writes the run's model and report as the next version in a folder; returns the version's.

    Args:
        run: a finished run with a report.
        folder: of versions.
        fold: whether to fold BatchNorms into the layers before them.
        weights: `float32` or `float16`.

    Raises:
        InputError: if the run has no report, its report is about another model, or there are no such weights.
    """
    from rdi_keras.evaluation import JSON_FILE, MARKDOWN_FILE, figure_names, read_report
    from rdi_keras.metadata import Metadata
    from rdi_keras.serving import export_saved_model

    metadata = Metadata.read(run.path)
    report = read_report(run.path, metadata)
    names = [JSON_FILE, MARKDOWN_FILE, *figure_names(report)]
    files = [run.path / name for name in names if (run.path / name).exists()]
    return export_saved_model(run.load_model(), metadata, folder, files, fold, weights)


def exported_version(run: RunFolder, folder: Path) -> Path | None:
    """The newest version in a folder with this run's report and metadata, or `None`."""
    from rdi_keras.evaluation import JSON_FILE
    from rdi_keras.metadata import FILE_NAME

    versions = [each for each in folder.iterdir() if each.name.isdecimal()] if folder.is_dir() else []
    names = (JSON_FILE, FILE_NAME)
    same = [
        each
        for each in versions
        if all(
            (each / name).is_file() and (each / name).read_bytes() == (run.path / name).read_bytes()
            for name in names
        )
    ]
    return max(same, key=lambda each: int(each.name), default=None)
