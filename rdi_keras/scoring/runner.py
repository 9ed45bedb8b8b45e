"""Shards handed to workers by Ray Data, on this machine or on a cluster."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from numpy.typing import ArrayLike

from rdi_keras.errors import InputError
from rdi_keras.scoring.results import ResultFolder
from rdi_keras.scoring.samples import Source
from rdi_keras.scoring.worker import Plan, ShardScorer, executed_digest

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rdi_keras.serving import Predictor

SHARD_SIZE = 1000
CONNECT_SECONDS = 5


def score(
    model: str | Path,
    source: Source,
    out: str | Path,
    engine: str = "auto",
    batch_size: int = 256,
    resize: bool = False,
    thresholds: ArrayLike | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    limit: int | None = None,
    shard_size: int = SHARD_SIZE,
    on_shard: Callable[[int, int], None] = lambda done, planned: None,
) -> dict[str, Any]:
    """Scores every image of a source; shards that are there already are left alone.

    Rows do not depend on the number of workers. A shard is written when it is complete, so that the same
    call goes on where an interrupted one stopped.

    Args:
        model: a run folder, a SavedModel's version, or a folder of versions.
        source: of the images.
        out: folder of results, see `ResultFolder`.
        engine: what executes the model, as for `Predictor`.
        batch_size: samples per call of the model.
        resize: whether images of another size are resized; without it they are listed as errors.
        thresholds: N-1 entropies in nats instead of the model's own.
        workers: processes, one core each; default: as many as this process, or the cluster, has cores.
        ray_address: of a Ray cluster, on whose machines model, data and results lie at the same paths;
            default: this machine, or the cluster that this process is connected to.
        limit: only the first so many images.
        shard_size: images per file of results.
        on_shard: called with the number of finished shards and of all.

    Returns:
        The summary, see `ResultFolder.summarise`.

    Raises:
        InputError: if model, data or settings are not to be had, `out` holds other scores, Ray is missing, or
            a worker failed; finished shards are kept.
    """
    ray = _import_ray()
    for name, value in {
        "batch_size": batch_size,
        "workers": workers,
        "shard_size": shard_size,
        "limit": limit,
    }.items():
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1. Received: {value}")
    predictor = _predictor(model, engine, thresholds)
    results = ResultFolder(Path(out).resolve(), source.key_column)
    limits = tuple(predictor.thresholds.tolist())
    path, engine = predictor.path.resolve(), predictor.engine
    settings = {
        "model_digest": predictor.metadata.model_digest,
        "executed_files": executed_digest(path, engine),
        "thresholds": limits,
        "engine": engine,
        "data": source.describe(),
        **{"batch_size": batch_size, "resize": resize, "limit": limit, "shard_size": shard_size},
    }
    plan = Plan(path, source, results.path, engine, limits, batch_size, resize, settings)
    shards = source.shards(shard_size, limit)
    results.open(settings)
    finished = results.finished()
    waiting = [shard for shard in shards if shard["number"] not in finished]
    on_shard(len(shards) - len(waiting), len(shards))
    if waiting:
        with _ray_connection(ray, ray_address, workers):
            done = len(shards) - len(waiting)
            for number, _ in enumerate(_run(ray, plan, waiting, workers), start=done + 1):
                on_shard(number, len(shards))
    return results.summarise(predictor.num_exits, len(shards))


def _import_ray() -> Any:
    # It would send statistics about its use, and ask before.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            f'Scoring needs the package ray ({error}). Install it: pip install "rdi_keras[ray]"'
        ) from None
    return ray


def _predictor(model: str | Path, engine: str, thresholds: ArrayLike | None) -> "Predictor":
    """Opened here too, so that what is wrong with it is said before workers start."""
    from rdi_keras.serving import Predictor

    return Predictor(model, engine, thresholds)


@contextlib.contextmanager
def _ray_connection(ray: Any, address: str | None, workers: int | None) -> Iterator[None]:
    """A connection, ended afterwards unless it was there before."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"address": address}
    if address is None:
        from rdi_keras.serving.engines import available_cores

        cores = max(available_cores(), workers or 1)
        options = {"address": "local", "num_cpus": cores, "include_dashboard": False}
    try:
        _check_reachable(address)
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"Cannot reach a Ray cluster at {address!r}: {error}. Give the address that `ray start` "
            "printed, or none for this machine"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raises `OSError` where nobody listens: Ray itself would go on trying for minutes."""
    place = address or ""
    parts = urlsplit(place if "://" in place else f"//{place}")
    if parts.port is not None:  # Not `auto` or `local`, which Ray resolves.
        socket.create_connection((parts.hostname, parts.port), CONNECT_SECONDS).close()


def _run(ray: Any, plan: Plan, shards: list[dict[str, Any]], workers: int | None) -> Iterator[dict[str, Any]]:
    """Scores the shards; yields what a worker says of each, in the order in which they are finished.

    Raises:
        InputError: the first that a worker met, or that it could not start; finished shards are kept.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # Its errors come as exceptions too.
    cores = max(int(ray.cluster_resources().get("CPU", 1)), 1)
    size = min(workers or cores, len(shards))
    # A block a shard, so that every shard is a task of its own.
    scored = ray.data.from_items(shards, override_num_blocks=len(shards)).map(
        ShardScorer,
        fn_constructor_args=[plan],
        # Else a shard may wait at a busy worker while another has nothing to do.
        compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
    )
    try:
        for answer in scored.iter_rows():
            if answer["refused"]:
                raise InputError(answer["refused"])
            yield answer
    except ray.exceptions.RayError as error:
        cause = str(error).strip().splitlines()[-1]
        raise InputError(
            f"A worker could not start, or was lost: {cause}. Every machine needs rdi_keras[ray] and the "
            "memory for a model a worker; finished shards are kept"
        ) from None
