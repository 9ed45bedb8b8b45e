"""From a configuration to data and a compiled model."""

import itertools
import math
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

import keras

from rdi_keras import data as data_sets
from rdi_keras import models
from rdi_keras.attacks import NFGSM, PGD, REACH, Attack, objective
from rdi_keras.data import Dataset
from rdi_keras.defenses import (
    CarriedPerturbation,
    ExitTerm,
    Mart,
    Mix,
    NeighbourDistillation,
    OrthogonalDistillation,
    RobustLoss,
    RobustModel,
    SplitMix,
    Trades,
)
from rdi_keras.errors import InputError
from rdi_keras.model_files import load_model
from rdi_keras.models import MultiExitModel
from rdi_keras.names import parse_epsilon
from rdi_keras.presets import AttackConfig, Config, TrainingConfig
from rdi_keras.runs import MODEL_FILE, TWIN_FILE
from rdi_keras.training.optimizers import make_optimizer

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
    "training.replays": (1, math.inf),
    "training.clip_norm": (1e-12, math.inf),
    "training.neighbour_weight": (0, math.inf),
    "training.orthogonal_weight": (0, math.inf),
    "training.checkpoint_minutes": (0, math.inf),
    "training.checkpoint_steps": (1, math.inf),
    "calibration.attacked": (0, math.inf),
    "calibration.accuracy": (0, 1),
    "calibration.temperature": (0.25, 4),
    "evaluation.limit": (1, math.inf),
    "evaluation.batch_size": (1, math.inf),
    "evaluation.curve_samples": (0, math.inf),
    "evaluation.opinion_samples": (1, math.inf),
}
# A single step goes a little further than the edge of the ball. Source: Wong et al., ICLR 2020.
SINGLE_STEP = 1.25


def check_numbers(config: Config) -> None:
    """Raises `InputError` if a number in the configuration is out of its range, or the name is no name."""
    for name, (lowest, highest) in RANGES.items():
        value = attrgetter(name)(config)
        if value is not None and not lowest <= value <= highest:
            upper = "" if highest == math.inf else f" and at most {highest}"
            raise InputError(f"{name} must be at least {lowest}{upper}. Received: {value}")
    if Path(config.name).name != config.name or config.name in ("", ".."):
        raise InputError(
            "name must be that of one folder, in which results are written; runs_dir says where it lies. "
            f"Received: {config.name!r}"
        )
    if config.calibration.attacked and config.calibration.shares is not None:
        raise InputError(
            "Calibration under attack takes a budget, not shares. Received: calibration.attacked="
            f"{config.calibration.attacked}, calibration.shares={config.calibration.shares}"
        )
    if config.calibration.accuracy is not None and not config.calibration.attacked:
        raise InputError(
            "calibration.accuracy is for calibration under attack; without it a budget alone decides. "
            f"Received: calibration.accuracy={config.calibration.accuracy}, calibration.attacked=0"
        )


def load_data(config: Config) -> Dataset:
    """The data set that the configuration names, once its numbers are checked.

    Raises:
        InputError: if it cannot be had, or a number is out of its range.
    """
    check_numbers(config)
    wanted = config.data
    dataset = data_sets.load(wanted.name, wanted.data_dir, wanted.image_size, wanted.calibration_pool)
    return dataset.with_train_limit(wanted.train_limit)


def training_radius(config: AttackConfig, epsilon: str | float) -> float:
    """The radius that is trained with: the attack's own, or else the run's."""
    if config.epsilon is None:
        return parse_epsilon(epsilon)
    return parse_epsilon(config.epsilon, "training.attack.epsilon")


def build_attack(config: AttackConfig, epsilon: str | float) -> Attack:
    """The training attack of a configuration."""
    radius = training_radius(config, epsilon)
    if config.solver == "n_fgsm":
        return Attack(objective(config.objective), NFGSM(radius), config.keep)
    reach = REACH if config.num_steps > 1 else SINGLE_STEP
    step_size = (
        reach * radius / max(config.num_steps, 1)
        if config.step_size is None
        else parse_epsilon(config.step_size, "training.attack.step_size")
    )
    solver = PGD(radius, config.num_steps, step_size, config.random_start, config.restarts)
    return Attack(objective(config.objective), solver, config.keep)


def build_loss(config: TrainingConfig) -> RobustLoss:
    """The loss of every exit."""
    if config.loss == "trades":
        return Trades(config.beta, config.label_smoothing)
    if config.loss == "mart":
        if config.label_smoothing:
            raise InputError(
                f"The loss mart takes no label smoothing. Received: {config.label_smoothing}. Choose mix "
                "or trades"
            )
        return Mart(config.beta)
    mixes = {"mix": Mix, "split_mix": SplitMix}
    if config.loss not in mixes:
        raise InputError(f"Unknown loss {config.loss!r}. Allowed: {', '.join(mixes)}, trades, mart")
    return mixes[config.loss](config.adversarial_weight, config.label_smoothing)


def build_terms(config: TrainingConfig) -> list[ExitTerm]:
    """The losses between exits."""
    weights = {
        NeighbourDistillation: config.neighbour_weight,
        OrthogonalDistillation: config.orthogonal_weight,
    }
    return [term(weight) for term, weight in weights.items() if weight]


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
    if wanted.weights is not None:
        if wanted.trunk is not None:
            raise InputError("model.trunk freezes weights, model.weights trains on from them. Received: both")
        source = Path(wanted.weights, MODEL_FILE if side_exits else TWIN_FILE)
        if not side_exits and not source.exists():
            raise InputError(
                f"The run that model.weights names has no {TWIN_FILE} for a twin to start from. Received: "
                f"{wanted.weights!r}. Train without one: --twin false"
            )
        take_weights(model, load_model(source))
    if wanted.trunk is not None:
        take_trunk(model, load_model(Path(wanted.trunk, MODEL_FILE)))
    training = config.training
    num_steps = max(len(dataset.train) // training.batch_size, 1) * training.replays * training.epochs
    carried = None
    if training.replays > 1:
        if not build_loss(training).needs_attack:
            raise InputError(
                "Free-AT (training.replays above 1) trains on attacked images. Received: "
                f"training.replays={training.replays}, training.adversarial_weight=0"
            )
        batch_size = min(training.batch_size, len(dataset.train))
        carried = CarriedPerturbation(
            training_radius(training.attack, config.epsilon), (batch_size, *dataset.input_shape)
        )
    model.compile(
        make_optimizer(training, num_steps),
        build_attack(training.attack, config.epsilon),
        build_loss(training),
        training.exit_weights if side_exits else None,
        build_terms(training),
        carried,
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
    _take(parts, [*source.segments, source.heads[-1]], "trunk")
    for part in parts:
        part.trainable = False


def take_weights(model: MultiExitModel, source: MultiExitModel) -> None:
    """Copies all of another model's weights, layer by layer, to train on from there.

    Args:
        model: gets the weights.
        source: the same network.

    Raises:
        InputError: names the first layer that one of them lacks or has in another shape.
    """
    _take([*model.segments, *model.heads], [*source.segments, *source.heads], "network")


def _take(parts: Sequence[keras.Model], theirs: Sequence[keras.Model], what: str) -> None:
    # In the order in which they run: not every layer has a name of its own.
    for layer, other in itertools.zip_longest(_weighted(parts), _weighted(theirs)):
        shapes = [
            [tuple(weight.shape) for weight in each.weights] if each is not None else "none"
            for each in (layer, other)
        ]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"The {what} to take over does not fit: layer {(layer or other).name!r} has weights of shape "
                f"{shapes[0]} here and {shapes[1]} there. Choose the same backbone and data of the same shape"
            )
        layer.set_weights(other.get_weights())


def _weighted(parts: Sequence[keras.Model]) -> list[keras.Layer]:
    flat = [layer for part in parts for layer in part._flatten_layers(include_self=False)]
    return [layer for layer in flat if layer.weights and not isinstance(layer, keras.Model)]
