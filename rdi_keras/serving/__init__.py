"""Trained models for users: the Predictor, exports for servers and devices, the client."""

from typing import TYPE_CHECKING, Any

from rdi_keras.metadata import Metadata, describe
from rdi_keras.serving.client import Client, ServedPrediction
from rdi_keras.serving.export import export_saved_model
from rdi_keras.serving.litert import LiteRTRunner, export_litert
from rdi_keras.serving.predictor import Prediction, Predictor, resolve_model_path

if TYPE_CHECKING:
    from rdi_keras.serving.loopback import LoopbackServer

__all__ = [
    "Client",
    "LiteRTRunner",
    "LoopbackServer",
    "Metadata",
    "Prediction",
    "Predictor",
    "ServedPrediction",
    "describe",
    "export_litert",
    "export_saved_model",
    "resolve_model_path",
]


def __getattr__(name: str) -> Any:
    if name != "LoopbackServer":  # It takes long to import, and few need it.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rdi_keras.serving.loopback import LoopbackServer

    return LoopbackServer


def __dir__() -> list[str]:
    return __all__
