"""Fits a model as its configuration says."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from rdi_keras.attacks import Attack, CompiledAttack, objective, pgd
from rdi_keras.data import Dataset
from rdi_keras.data.pipeline import TrainingBatches
from rdi_keras.defenses import CalibrateThresholds, OverfittingProbe, RobustModel, StopOnDivergence
from rdi_keras.presets import Config
from rdi_keras.training.calibrating import calibrate
from rdi_keras.training.checkpoints import Checkpoints, Progress
from rdi_keras.training.cluster import Cluster
from rdi_keras.training.loop import TrainingLoop
from rdi_keras.training.stopping import StopRequest

VALIDATION_SAMPLES = 1000
"""How many held-out samples the progress of training is measured on."""
PROBE_STEPS = 10


def fit_model(
    model: RobustModel,
    config: Config,
    dataset: Dataset,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoints: Checkpoints | None = None,
    stop: StopRequest | None = None,
    on_epoch: Callable[[list[dict]], None] = lambda history: None,
    cluster: Cluster | None = None,
    say: Callable[[str], None] = print,
) -> Progress:
    """Trains a compiled model and leaves it calibrated; validates on calibration data.

    Arguments but the first three and the last, and errors, are `TrainingLoop`'s.
    """
    training = config.training
    batches = training_batches(config, dataset)
    held_out = dataset.calibration.first(VALIDATION_SAMPLES)
    own = [CalibrateThresholds(lambda each: calibrate(each, dataset.calibration, config.calibration))]
    if training.probe:
        attack = Attack(objective("average"), pgd(config.epsilon, PROBE_STEPS))
        own.append(OverfittingProbe(CompiledAttack(attack, model), held_out, config.seed, say))
    own.append(StopOnDivergence())
    loop = TrainingLoop(
        model,
        batches,
        held_out,
        training.epochs,
        [*own, *callbacks],
        checkpoints,
        stop,
        on_epoch,
        cluster,
        training.precision,
    )
    return loop.run()


def decisive_settings(config: Config) -> dict:
    """The fields, by name, that decide which weights a training ends with."""
    fields = asdict(config)
    sections = ("data", "model", "training", "calibration")
    settings = {name: fields[name] for name in ("seed", "epsilon", "twin", "strategy")}
    settings |= {
        f"{section}.{name}": value for section in sections for name, value in fields[section].items()
    }
    indifferent = {
        *("data.data_dir", "training.checkpoint_minutes", "training.checkpoint_steps"),
        # They come after training.
        *("calibration.attacked", "calibration.accuracy", "calibration.temperature"),
    }
    return {name: value for name, value in settings.items() if name not in indifferent}


def checkpoints_of(
    config: Config,
    dataset: Dataset,
    folder: Path,
    part: str,
    say: Callable[[str], None] = print,
    cluster: Cluster | None = None,
) -> Checkpoints:
    """Where a training of this configuration on these data keeps its states.

    Args:
        config: says how often a state is written.
        dataset: its training and calibration data are part of what a state must fit.
        folder: of the states.
        part: `model` or `twin`.
        say: is told of what went wrong and did not stop training.
        cluster: several processes write at the same steps, by default after every epoch, and only the chief
            does: the folder must be one that all of them see.
    """
    about = decisive_settings(config)
    about["software"] = [tf.__version__, keras.__version__, np.__version__, source_digest()]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for split in (dataset.train, dataset.calibration):
        for values in (split.images, split.labels):
            digest.update(np.ascontiguousarray(values).data)
    minutes, steps = config.training.checkpoint_minutes, config.training.checkpoint_steps
    chief = cluster is None or cluster.is_chief
    if cluster is not None and cluster.num_workers > 1:
        minutes, steps = math.inf, steps or training_batches(config, dataset).steps
    return Checkpoints(folder, part, digest.hexdigest(), minutes, steps, say, chief)


def source_digest() -> str:
    """SHA-256 of the modules of this package that training runs through."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for folder in ("attacks", "data", "defenses", "inference", "models", "training"):
        for file in sorted((package / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def training_batches(config: Config, dataset: Dataset) -> TrainingBatches:
    """The training data in batches."""
    training = config.training
    return TrainingBatches(
        dataset.train,
        training.batch_size,
        config.seed,
        training.pad_crop,
        training.flip,
        training.replays,
    )
