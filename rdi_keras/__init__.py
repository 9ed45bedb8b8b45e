"""rdi_keras: image classifiers that are accurate, robust and cheap at the same time.

    import rdi_keras as rdi

    predictor = rdi.Predictor(rdi.fit(rdi.presets.preset("digits")))

Parts, in the order in which data walk: `rdi.data`, `rdi.models`, `rdi.inference`, `rdi.attacks`,
`rdi.defenses`, `rdi.training`, `rdi.evaluation`, `rdi.deployment`, `rdi.serving`, `rdi.scoring`;
`rdi.presets` holds configurations. `rdi.fit` takes a `rdi.Config` from data to an exported model,
`rdi.evaluate` measures a run folder again, and `rdi.Predictor` opens any trained model.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rdi_keras.errors import InputError, ServerError
from rdi_keras.metadata import package_version

if TYPE_CHECKING:  # What `__getattr__` finds, for editors and type checkers.
    from rdi_keras import (
        attacks,
        data,
        defenses,
        deployment,
        evaluation,
        inference,
        models,
        presets,
        scoring,
        serving,
        training,
    )
    from rdi_keras.cli.evaluate import evaluate
    from rdi_keras.cli.fit import fit
    from rdi_keras.defenses import RobustModel
    from rdi_keras.presets import Config
    from rdi_keras.runs import RunFolder
    from rdi_keras.serving import Prediction, Predictor

__version__ = package_version()

__all__ = [
    "Config",
    "InputError",
    "Prediction",
    "Predictor",
    "RobustModel",
    "RunFolder",
    "ServerError",
    "attacks",
    "data",
    "defenses",
    "deployment",
    "evaluate",
    "evaluation",
    "fit",
    "inference",
    "models",
    "presets",
    "scoring",
    "serving",
    "training",
]

# Where the names live that are no parts. All of `__all__` is imported at its first use: most of it loads
# TensorFlow, which takes seconds.
_HOMES = {
    "Config": "presets",
    "Prediction": "serving",
    "Predictor": "serving",
    "RobustModel": "defenses",
    "RunFolder": "runs",
    "evaluate": "cli.evaluate",
    "fit": "cli.fit",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
