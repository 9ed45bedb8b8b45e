"""Several devices or machines that train one model together."""

import json
import os
from dataclasses import dataclass

import tensorflow as tf

from rdi_keras.errors import InputError

STRATEGIES = ("none", "mirrored", "multi_worker")
"""Who may train together: see `Config.strategy`."""


@dataclass(frozen=True)
class Cluster:
    """Who trains together.

    Attributes:
        strategy: under whose scope models are built and trained.
        index: of this process, 0 for the chief, which alone writes.
        num_workers: processes.
    """

    strategy: tf.distribute.Strategy
    index: int = 0
    num_workers: int = 1

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    @property
    def num_replicas(self) -> int:
        """Devices, over all processes."""
        return self.strategy.num_replicas_in_sync

    def wait_for_all(self) -> None:
        """Returns when every process has come here."""
        if self.num_workers > 1:
            ones = self.strategy.run(lambda: tf.constant(1.0))
            self.strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None)


def join_cluster(name: str, trained: bool = False) -> Cluster:
    """Joins what the name says; must come before any other use of TensorFlow's devices.

    Args:
        name: `none`; `mirrored`, all GPUs of this machine, or all its logical CPUs; or `multi_worker`, the
            processes that the environment variable `TF_CONFIG` lists.
        trained: whether nothing is left to train together: then nobody is waited for.

    Raises:
        InputError: if there is no such strategy, or `TF_CONFIG` is missing or says something else.
    """
    if name == "none":
        return Cluster(tf.distribute.get_strategy())
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return Cluster(tf.distribute.MirroredStrategy([each.name for each in devices]))
    if name != "multi_worker":
        raise InputError(f"Unknown strategy {name!r}. Allowed: {', '.join(STRATEGIES)}")
    index, workers = _task()
    if trained:
        return Cluster(tf.distribute.get_strategy(), index)
    return Cluster(tf.distribute.MultiWorkerMirroredStrategy(), index, len(workers))


def _task() -> tuple[int, list[str]]:
    """This process's number and all workers' addresses, from `TF_CONFIG`."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        workers, kind, index = config["cluster"]["worker"], config["task"]["type"], config["task"]["index"]
        if kind != "worker" or not 0 <= index < len(workers):
            raise ValueError(f"task {kind} {index} is none of the {len(workers)} workers")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            'The strategy multi_worker takes TF_CONFIG, such as {"cluster": {"worker": ["host1:2222", '
            f'"host2:2222"]}}, "task": {{"type": "worker", "index": 0}}}}. Received: {text!r} ({error})'
        ) from None
    return index, workers
