"""`training/score.py MODEL DATA --out FOLDER`: scores any number of images, on one machine or on many."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rdi_keras.cli.options import command, parse

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rdi_keras.scoring import ResultFolder

DESCRIPTION = (
    "Score a folder of images or a TFDS split of any size with Ray Data: one Parquet file a shard, a list of "
    "images that could not be scored, and a summary. Interrupted, the same command goes on where it stopped."
)
SHOWN_ERRORS = 10


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Scores the data named on the command line."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(description=DESCRIPTION, exit_on_error=False)
    parser.add_argument("model", type=str, help="a run folder, or a SavedModel's folder")
    parser.add_argument("data", type=str, help="a folder of image files, nested as you like, or a TFDS set")
    parser.add_argument("--out", type=str, required=True, help="folder of results")
    parser.add_argument("--engine", type=str, default="auto", help="what executes the model")
    parser.add_argument("--batch_size", type=int, default=256, help="images per call of the model")
    parser.add_argument("--resize", type=bool, default=False, help="resize images of another size")
    parser.add_argument("--thresholds", type=list[float] | None, help="instead of the model's own, in nats")
    parser.add_argument("--workers", type=int | None, help="processes; default: one a core")
    parser.add_argument("--ray_address", type=str | None, help="of a cluster; default: none")
    parser.add_argument("--limit", type=int | None, help="only the first so many images")
    parser.add_argument("--shard_size", type=int, default=1000, help="images per file of results")
    parser.add_argument("--split", type=str, default="test", help="of a TFDS set")
    parser.add_argument("--data_dir", type=str | None, help="folder of prepared TFDS sets")
    arguments = parse(parser, argv)

    from rich.progress import Progress

    from rdi_keras import scoring

    found = scoring.source(arguments.data, arguments.data_dir, arguments.split)
    settings = {
        name: value
        for name, value in vars(arguments).items()
        if name not in ("model", "data", "out", "split", "data_dir")
    }
    with Progress(transient=True) as progress:
        task = progress.add_task("shards", total=None)

        def on_shard(done: int, planned: int) -> None:
            progress.update(task, completed=done, total=planned)

        summary = scoring.score(arguments.model, found, arguments.out, **settings, on_shard=on_shard)
    _tell(summary, scoring.ResultFolder(Path(arguments.out), found.key_column))


def _tell(summary: dict, results: "ResultFolder") -> None:
    for key, reason in results.errors(SHOWN_ERRORS):
        print(f"not scored: {key}: {reason}")
    if summary["errors"] > SHOWN_ERRORS:
        print(f"not scored: {summary['errors'] - SHOWN_ERRORS:,} more, listed in errors.parquet")
    print(f"scored: {summary['scored']:,} of {summary['images']:,} images")
    if summary["scored"]:
        shares = (f"{name} {count / summary['scored']:.1%}" for name, count in summary["exits"].items())
        print(f"left at: {', '.join(shares)}; mean MACs {summary['mean_macs']:,.0f}")
    if summary["labelled"]:
        print(f"accuracy: {summary['accuracy']:.1%} of the {summary['labelled']:,} whose class is known")
    print(f"results: {results.path}")
