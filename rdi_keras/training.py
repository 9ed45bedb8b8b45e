"""From a configuration to a trained, calibrated model."""

import itertools
import math
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

import keras
import numpy as np

from rdi_keras import data as data_sets
from rdi_keras import models
from rdi_keras.attacks import PGD, REACH, Attack, objective
from rdi_keras.data import Dataset, Split
from rdi_keras.data.pipeline import training_batches
from rdi_keras.defenses import CalibrateThresholds, RobustModel, StopOnDivergence
from rdi_keras.errors import InputError
from rdi_keras.inference import (
    BudgetTable,
    CostTable,
    budget_table,
    cost_table,
    entropy,
    exits_at,
    thresholds_for_budget,
    thresholds_for_shares,
)
from rdi_keras.models import MultiExitModel
from rdi_keras.names import exit_names, parse_epsilon
from rdi_keras.presets import AttackConfig, CalibrationConfig, Config, TrainingConfig
from rdi_keras.runs import MODEL_FILE, load_model

# What a configuration's numbers may be; None, where it is allowed, means "not given".
RANGES = {
    "seed": (0, 2**32 - 1),
    "data.image_size": (1, math.inf),
    "data.train_limit": (1, math.inf),
    "training.epochs": (1, math.inf),
    "training.batch_size": (1, math.inf),
    "training.learning_rate": (1e-12, math.inf),
    "training.weight_decay": (0, math.inf),
    "training.pad_crop": (0, math.inf),
    "evaluation.limit": (1, math.inf),
    "evaluation.batch_size": (1, math.inf),
    "evaluation.curve_samples": (0, math.inf),
    "evaluation.opinion_samples": (1, math.inf),
}
OPTIMIZERS = ("adam", "sgd")
WARMUP_SHARE = 0.1
# Held-out samples that the progress of training is measured on.
VALIDATION_SAMPLES = 1000


def check_numbers(config: Config) -> None:
    """Raises `InputError` if a number in the configuration is out of its range."""
    for name, (lowest, highest) in RANGES.items():
        value = attrgetter(name)(config)
        if value is not None and not lowest <= value <= highest:
            upper = "" if highest == math.inf else f" and at most {highest}"
            raise InputError(f"{name} must be at least {lowest}{upper}. Received: {value}")


def load_data(config: Config) -> Dataset:
    """The data set that the configuration names, once its numbers are checked.

    Raises:
        InputError: if it cannot be had, or a number is out of its range.
    """
    check_numbers(config)
    wanted = config.data
    dataset = data_sets.load(wanted.name, wanted.data_dir, wanted.image_size, wanted.calibration_pool)
    return dataset.with_train_limit(wanted.train_limit)


def build_attack(config: AttackConfig, epsilon: str) -> Attack:
    """The training attack of a configuration."""
    radius = parse_epsilon(epsilon)
    step_size = (
        REACH * radius / max(config.num_steps, 1)
        if config.step_size is None
        else parse_epsilon(config.step_size, "training.attack.step_size")
    )
    solver = PGD(radius, config.num_steps, step_size, config.random_start, config.restarts)
    return Attack(objective(config.objective), solver)


def build_model(config: Config, dataset: Dataset, side_exits: bool = True) -> RobustModel:
    """A compiled model with fresh weights from the configuration's seed.

    Args:
        config: the run's configuration.
        dataset: gives the input shape, the classes and the number of steps.
        side_exits: without them it is the twin, the same backbone with its last exit only.

    Raises:
        InputError: if a field has a value that is not allowed.
    """
    keras.utils.set_random_seed(config.seed)
    wanted = config.model
    backbone = models.backbone(
        wanted.backbone,
        dataset.input_shape,
        dataset.num_classes,
        exits_after=wanted.exits_after,
        heads=wanted.heads,
        width=wanted.width,
    )
    if not side_exits:
        backbone = backbone.without_side_exits()
    model = RobustModel.from_backbone(backbone)
    if wanted.trunk is not None:
        take_trunk(model, load_model(Path(wanted.trunk, MODEL_FILE)))
    training = config.training
    num_steps = max(len(dataset.train) // training.batch_size, 1) * training.epochs
    model.compile(
        optimizer=_optimizer(training, num_steps),
        attack=build_attack(training.attack, config.epsilon),
        adversarial_weight=training.adversarial_weight,
        exit_weights=training.exit_weights if side_exits else None,
        seed=config.seed,
    )
    return model


def take_trunk(model: MultiExitModel, source: MultiExitModel) -> None:
    """Copies another model's trunk and last exit, layer by layer, and freezes them.

    Args:
        model: gets the weights.
        source: has the same backbone; its side exits may stand elsewhere.

    Raises:
        InputError: names the first layer that one of them lacks or has in another shape.
    """
    parts = [*model.segments, model.heads[-1]]
    # In the order in which they run: not every layer has a name of its own.
    theirs = _weighted([*source.segments, source.heads[-1]])
    for layer, other in itertools.zip_longest(_weighted(parts), theirs):
        shapes = [
            [tuple(weight.shape) for weight in each.weights] if each is not None else "none"
            for each in (layer, other)
        ]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"The trunk to take over does not fit: layer {(layer or other).name!r} has weights of shape "
                f"{shapes[0]} here and {shapes[1]} there. Choose the same backbone and data of the same shape"
            )
        layer.set_weights(other.get_weights())
    for part in parts:
        part.trainable = False


def _weighted(parts: Sequence[keras.Model]) -> list[keras.Layer]:
    flat = [layer for part in parts for layer in part._flatten_layers(include_self=False)]
    return [layer for layer in flat if layer.weights and not isinstance(layer, keras.Model)]


def fit_model(
    model: RobustModel,
    config: Config,
    dataset: Dataset,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.callbacks.History:
    """Trains a compiled model and leaves it calibrated; validates on calibration data."""
    training = config.training
    batches = training_batches(
        dataset.train, training.batch_size, config.seed, training.pad_crop, training.flip
    )
    held_out = dataset.calibration.first(VALIDATION_SAMPLES)
    follow = CalibrateThresholds(lambda each: calibrate(each, dataset.calibration, config.calibration))
    return model.fit(
        batches,
        epochs=training.epochs,
        validation_data=(held_out.images, held_out.labels),
        validation_batch_size=VALIDATION_SAMPLES,
        callbacks=[follow, StopOnDivergence(), *callbacks],
        shuffle=False,  # The batches are shuffled already.
        verbose=0,
    )


def calibrate(model: RobustModel, held_out: Split, config: CalibrationConfig) -> dict:
    """Sets the model's thresholds from held-out data.

    Returns:
        How they were chosen, and accuracy, mean MACs, saving and exit shares on these data.
    """
    cost = cost_table(model)
    logits = _held_out_logits(model, held_out)
    entropies = np.asarray(entropy(logits))
    model.thresholds.assign(_choose_thresholds(entropies, cost, config))
    method = f"shares {config.shares}" if config.shares else f"budget {config.budget}"
    return _facts(model, logits, held_out, method)


def calibration_facts(model: MultiExitModel, held_out: Split, method: str) -> dict:
    """What a model's thresholds do on held-out data, and in words how they were chosen."""
    return _facts(model, _held_out_logits(model, held_out), held_out, method)


def _facts(model: MultiExitModel, logits: np.ndarray, held_out: Split, method: str) -> dict:
    cost = cost_table(model)
    exits = exits_at(np.asarray(entropy(logits)), model.thresholds.numpy())
    answers = np.argmax(logits, axis=-1)[np.arange(len(exits)), exits - 1]
    mean_macs = float(np.asarray(cost.cumulative)[exits - 1].mean())
    return {
        "method": method,
        "n": len(held_out),
        "accuracy": float(np.mean(answers == held_out.labels)),
        "mean_macs": mean_macs,
        "saving": 1 - mean_macs / cost.backbone,
        "exit_shares": (np.bincount(exits, minlength=model.num_exits + 1)[1:] / len(exits)).tolist(),
    }


def calibrate_budgets(model: RobustModel, held_out: Split) -> BudgetTable | None:
    """Thresholds by mean compute, from held-out data; `None` for a model with one exit."""
    if model.num_exits == 1:
        return None
    cost = cost_table(model)
    entropies = np.asarray(entropy(_held_out_logits(model, held_out)))
    return budget_table(entropies, cost.cumulative, cost.backbone)


def _held_out_logits(model: RobustModel, held_out: Split) -> np.ndarray:
    """Float32 `[n, N, C]`."""
    outputs = model.predict(held_out.images, batch_size=500, verbose=0)
    return np.stack([outputs[name] for name in exit_names(model.num_exits)], axis=1)


def _choose_thresholds(entropies: np.ndarray, cost: CostTable, config: CalibrationConfig) -> np.ndarray:
    if entropies.shape[1] == 1:
        return np.zeros(0, np.float32)
    if config.shares is not None:
        return thresholds_for_shares(entropies, config.shares)
    return thresholds_for_budget(entropies, cost.cumulative, config.budget * cost.backbone)


def _optimizer(config: TrainingConfig, num_steps: int) -> keras.optimizers.Optimizer:
    if config.optimizer not in OPTIMIZERS:
        raise InputError(f"Unknown optimizer {config.optimizer!r}. Allowed: {', '.join(OPTIMIZERS)}")
    warmup = round(WARMUP_SHARE * num_steps)
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 10,
        decay_steps=num_steps - warmup,
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate, weight_decay=config.weight_decay or None)
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=config.weight_decay or None)
