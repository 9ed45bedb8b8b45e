"""`metadata.json`: what a reader of a model needs to know beside its weights."""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdi_keras.errors import InputError
from rdi_keras.files import read_json, write_text
from rdi_keras.names import parse_epsilon

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    import keras

    from rdi_keras.inference import BudgetTable
    from rdi_keras.models import MultiExitModel

FILE_NAME = "metadata.json"
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_SCHEMA = {
    "type": "object",
    "properties": {
        **{
            name: {"type": "string"}
            for name in ("dataset", "epsilon", "preset", "model_digest", "package_version")
        },
        "class_names": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "input_shape": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "minItems": 3,
            "maxItems": 3,
        },
        "thresholds": _NUMBERS,
        "macs_per_exit": _NUMBERS | {"minItems": 1},
        "macs_backbone": {"type": "number", "exclusiveMinimum": 0},
        "budget_table": {
            "type": ["object", "null"],
            "properties": {"budgets": _NUMBERS, "thresholds": {"type": "array", "items": _NUMBERS}},
        },
    },
}


def package_version() -> str:
    """The installed version of rdi_keras; `unknown` where it runs from a bare source tree."""
    try:
        return importlib.metadata.version("rdi_keras")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def weights_digest(model: "keras.Model") -> str:
    """SHA-256 of a Keras model's weights, thresholds included: tells two models apart."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Metadata:
    """Facts about a trained multi-exit model.

    Attributes:
        class_names: in the order of the logits.
        input_shape: `[H, W, C]`.
        thresholds: N-1 entropies in nats, calibrated on held-out data.
        macs_per_exit: N cumulative multiply-accumulates per sample, heads passed included.
        macs_backbone: the same for the backbone without side exits.
        dataset: what it was trained on.
        epsilon: the budget it was trained against, as text, e.g. `8/255`.
        preset: the configuration's name.
        model_digest: of the weights, see `weights_digest`.
        package_version: of rdi_keras.
        budget_table: thresholds by mean compute; `None` where they were not calibrated.
    """

    class_names: list[str]
    input_shape: list[int]
    thresholds: list[float]
    macs_per_exit: list[int]
    macs_backbone: int
    dataset: str
    epsilon: str
    preset: str
    model_digest: str
    package_version: str
    budget_table: "BudgetTable | None" = None

    @property
    def num_exits(self) -> int:
        return len(self.macs_per_exit)

    @property
    def epsilon_value(self) -> float:
        """The budget in pixel units."""
        return parse_epsilon(self.epsilon)

    def write(self, folder: str | Path) -> None:
        """Writes `metadata.json` into the folder."""
        write_text(Path(folder, FILE_NAME), json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: str | Path) -> "Metadata":
        """Reads `metadata.json` of a folder.

        Raises:
            InputError: if it is not there or does not hold exactly these fields.
        """
        path = Path(folder, FILE_NAME)
        try:
            metadata = cls(**_checked(read_json(path)))
            table: Any = metadata.budget_table  # A dictionary, as JSON holds it.
            if table is None:
                return metadata
            from rdi_keras.inference import BudgetTable

            table = BudgetTable(**table)
            sizes = {len(each) for each in table.thresholds}
            if len(table.budgets) != len(table.thresholds) or sizes != {metadata.num_exits - 1}:
                raise ValueError(
                    "budget_table holds no list of thresholds, one per side exit, for every budget"
                )
            return dataclasses.replace(metadata, budget_table=table)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"Cannot read {str(path)!r}: {error}. Give a run folder (runs/<name>) or a version of "
                "a SavedModel (saved_models/<name>/<version>)"
            ) from None


def describe(
    model: "MultiExitModel",
    class_names: Sequence[str],
    dataset: str,
    epsilon: str,
    preset: str,
    budget_table: "BudgetTable | None" = None,
) -> Metadata:
    """The metadata of a calibrated model.

    Args:
        model: gives input shape, thresholds, costs and digest.
        class_names: in the order of the logits.
        dataset: what it was trained on.
        epsilon: the budget it was trained against, as text.
        preset: the configuration's name.
        budget_table: thresholds by mean compute.
    """
    from rdi_keras.inference import cost_table

    cost = cost_table(model)
    return Metadata(
        class_names=list(class_names),
        input_shape=list(model.input_shape[1:]),
        thresholds=model.thresholds.numpy().tolist(),
        macs_per_exit=cost.cumulative,
        macs_backbone=cost.backbone,
        dataset=dataset,
        epsilon=epsilon,
        preset=preset,
        model_digest=weights_digest(model),
        package_version=package_version(),
        budget_table=budget_table,
    )


def _checked(fields: Any) -> dict[str, Any]:
    """Returns what `metadata.json` holds; `ValueError` if a field is not what its name says."""
    import jsonschema

    for error in jsonschema.Draft202012Validator(_SCHEMA).iter_errors(fields):
        raise ValueError(f"{'/'.join(map(str, error.absolute_path))}: {error.message}"[:300])
    return fields
