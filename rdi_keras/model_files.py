"""Multi-exit models as `.keras` files."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from rdi_keras.errors import InputError
from rdi_keras.files import written_aside

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rdi_keras.models import MultiExitModel


def save_model(model: "MultiExitModel", path: Path) -> None:
    """Writes a `.keras` file, at once or not at all."""
    with written_aside(path) as aside:
        model.save(aside)


def load_model(path: Path) -> "MultiExitModel":
    """The multi-exit model of a `.keras` file, not compiled.

    Raises:
        InputError: if the file is missing, damaged, or holds another kind of model.
    """
    import keras

    from rdi_keras.models import MultiExitModel

    importlib.import_module("rdi_keras.defenses")  # Registers the class that the file names.
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # What Keras raises for a damaged file is not documented.
        # Keras goes on to advise how to run the code all the same, and prints configurations whole.
        reason = " ".join(str(error).partition(" If you trust ")[0].split())[:300]
        raise InputError(
            f"Cannot load {str(path)!r}: {reason}. A model's file may hold no code and name no classes but "
            "Keras's and rdi_keras's. Train the run again, or get the file from where it came"
        ) from None
    if not isinstance(model, MultiExitModel):
        raise InputError(f"{str(path)!r} holds a {type(model).__name__}, not a multi-exit model")
    return model
