"""rdi_keras: image classifiers that are accurate, robust and cheap at the same time.

    import rdi_keras as rdi

Parts, in the order in which data walk: `rdi.data`, `rdi.models`, `rdi.inference`, `rdi.attacks`,
`rdi.defenses`, `rdi.evaluation`, `rdi.serving`; `rdi.presets` holds configurations, and
`rdi.Predictor` opens any trained model.
"""

import importlib

from rdi_keras.errors import InputError, ServerError
from rdi_keras.metadata import package_version

__version__ = package_version()

# Imported at first use: they load TensorFlow, which takes seconds.
_PARTS = (
    "attacks",
    "data",
    "defenses",
    "evaluation",
    "inference",
    "models",
    "presets",
    "serving",
)
_NAMES = {"Predictor": "serving", "Prediction": "serving", "RobustModel": "defenses"}

__all__ = ["InputError", "ServerError", *_PARTS, *_NAMES]


def __getattr__(name: str):
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
