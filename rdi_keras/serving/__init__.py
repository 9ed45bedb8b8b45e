"""Trained models for users: the Predictor, and export as a SavedModel."""

from rdi_keras.serving.export import export_saved_model
from rdi_keras.serving.predictor import Prediction, Predictor, resolve_model_path

__all__ = [
    "Prediction",
    "Predictor",
    "export_saved_model",
    "resolve_model_path",
]
