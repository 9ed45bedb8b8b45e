"""Defences by name: what they change in a configuration. Importing this module needs no TensorFlow."""

import copy
import dataclasses

from rdi_keras.errors import InputError
from rdi_keras.presets.config import Config, TrainingConfig

# Free-AT uses every batch so often, and as many times fewer epochs.
REPLAYS = 4

DEFENCES: dict[str, dict] = {
    "none": {"adversarial_weight": 0.0},
    "main": {"attack.objective": "main"},
    "average": {"attack.objective": "average"},
    "max_average": {"attack.objective": "max_average"},
    "random_exit": {"attack.objective": "random_exit"},
    "exit_aware": {"attack.objective": "exit_aware"},
    "slow": {"attack.objective": "average+slowdown(1)"},
    "split_mix": {"attack.objective": "average", "loss": "split_mix", "adversarial_weight": 0.5},
    "trades": {"attack.objective": "divergence", "loss": "trades"},
    "mart": {"attack.objective": "average", "loss": "mart"},
    "distilled": {"attack.objective": "average", "neighbour_weight": 1.0, "orthogonal_weight": 1.0},
    "fast_at": {"attack.objective": "average", "attack.num_steps": 1, "attack.keep": "last", "probe": True},
    "n_fgsm": {
        "attack.objective": "average",
        "attack.solver": "n_fgsm",
        "attack.keep": "last",
        "probe": True,
    },
    "free_at": {"attack.objective": "average", "adversarial_weight": 1.0, "replays": REPLAYS},
}


def with_defence(config: Config, name: str) -> Config:
    """A copy of a configuration that trains with this defence and is otherwise the same.

    Raises:
        InputError: if there is no defence of this name.
    """
    if name not in DEFENCES:
        raise InputError(f"Unknown defence {name!r}. Allowed: {', '.join(DEFENCES)}")
    changed = copy.deepcopy(config)
    plain = TrainingConfig()
    for field in ("loss", "label_smoothing", "neighbour_weight", "orthogonal_weight", "replays", "probe"):
        setattr(changed.training, field, getattr(plain, field))  # What another defence would change.
    changed.training.attack.solver = plain.attack.solver
    for field, value in DEFENCES[name].items():
        section, _, leaf = field.rpartition(".")
        target = changed.training.attack if section else changed.training
        if leaf not in {each.name for each in dataclasses.fields(target)}:
            raise KeyError(field)
        setattr(target, leaf, value)
    if name == "free_at":
        changed.training.epochs = max(config.training.epochs // REPLAYS, 1)
    return changed
