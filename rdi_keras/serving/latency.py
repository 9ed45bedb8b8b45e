"""Measures how long leaving at each exit takes on this machine."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from rdi_keras.errors import InputError
from rdi_keras.inference import LatencyTable, fold_batch_norm
from rdi_keras.models import MultiExitModel
from rdi_keras.serving.engines import (
    ONNXRUNTIME,
    TENSORFLOW,
    Engine,
    KerasEngine,
    OnnxEngine,
    available_cores,
    check_threads,
)

MIN_ROUNDS = 3


def open_engine(model: MultiExitModel, engine: str, num_threads: int | None = None) -> Engine:
    """A model, BatchNorms folded, in an engine.

    Args:
        model: the multi-exit model.
        engine: `onnxruntime` or `tensorflow`.
        num_threads: of ONNX Runtime; default: the machine's cores.

    Raises:
        InputError: if there is no such engine.
    """
    if engine in (ONNXRUNTIME, TENSORFLOW):
        check_threads(engine, num_threads)
    folded = fold_batch_norm(model)
    if engine == TENSORFLOW:
        return KerasEngine(folded)
    if engine == ONNXRUNTIME:
        from rdi_keras.serving.onnx_graph import adaptive_onnx

        return OnnxEngine(adaptive_onnx(folded).SerializeToString(), lambda: KerasEngine(model), num_threads)
    raise InputError(f"Unknown engine {engine!r}. Allowed: {ONNXRUNTIME}, {TENSORFLOW}")


def measure_latency(
    model: MultiExitModel,
    images: np.ndarray,
    engine: str = ONNXRUNTIME,
    num_threads: int | None = None,
    batch_sizes: Sequence[int] = (1, 32),
    seconds: float = 0.5,
) -> LatencyTable:
    """Times whole batches that leave at each exit, and the backbone without side exits, interleaved.

    Args:
        model: the multi-exit model.
        images: float32 `[n, H, W, C]`; repeated where a batch needs more.
        engine: `onnxruntime` or `tensorflow`.
        num_threads: of ONNX Runtime; default: the machine's cores.
        batch_sizes: rising.
        seconds: to spend on every exit and batch size, but at least three rounds. Medians are kept.
    """
    opened = open_engine(model, engine, num_threads)
    plain = open_engine(model.keep_exits([model.num_exits]), engine, num_threads)
    columns = []
    for size in batch_sizes:
        batch = np.resize(images, (size, *images.shape[1:])).astype(np.float32)
        ways = [
            partial(opened.adaptive, batch, leaving_at(number, model.num_exits, size))
            for number in range(1, model.num_exits + 1)
        ]
        ways.append(partial(plain.adaptive, batch, leaving_at(1, 1, size)))
        columns.append(median_ms(ways, seconds))
    *to_exit, ms_plain = zip(*columns, strict=True)
    if engine == TENSORFLOW:
        threads = tf.config.threading.get_intra_op_parallelism_threads() or available_cores()
    else:
        threads = num_threads or available_cores()
    return LatencyTable(engine, threads, list(batch_sizes), [list(each) for each in to_exit], list(ms_plain))


def leaving_at(number: int, num_exits: int, batch_size: int) -> np.ndarray:
    """Thresholds float32 `[batch_size, N-1]` that make everybody leave at one exit."""
    limits = np.zeros((batch_size, num_exits - 1), np.float32)
    limits[:, number - 1 : number] = np.inf
    return limits


def median_ms(ways: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Median milliseconds of each call; the calls take turns, after one that does not count.

    Args:
        ways: what to time.
        seconds: to spend on each, but at least three rounds.
    """
    for way in ways:
        way()
    spent: list[list[float]] = [[] for _ in ways]
    end = time.perf_counter() + seconds * len(ways)
    while len(spent[-1]) < MIN_ROUNDS or time.perf_counter() < end:
        for way, taken in zip(ways, spent, strict=True):
            start = time.perf_counter()
            way()
            taken.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in spent]
