"""The run folder: where training leaves its model and everything that was measured of it."""

import contextlib
import datetime
import fcntl
import fnmatch
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rdi_keras.errors import InputError
from rdi_keras.files import ASIDE, make_folder, read_json, write_text
from rdi_keras.metadata import FILE_NAME as METADATA_FILE
from rdi_keras.metadata import Metadata, describe, weights_digest
from rdi_keras.model_files import load_model, save_model
from rdi_keras.presets import Config

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rdi_keras.data import Dataset
    from rdi_keras.inference import BudgetTable
    from rdi_keras.models import MultiExitModel

MODEL_FILE = "model.keras"
SAVED_MODEL_FILE = "saved_model.pb"
TWIN_FILE = "twin.keras"
CONFIG_FILE = "config.yaml"
ENVIRONMENT_FILE = "environment.json"
CALIBRATION_FILE = "calibration.json"
HISTORY_FILE = "history.csv"
TWIN_HISTORY_FILE = "twin_history.csv"
TEST_EVALUATIONS_FILE = "test_evaluations.jsonl"
# What a run's commands write, as patterns: nothing else is cleared away for a new one.
WRITTEN = (
    *(MODEL_FILE, TWIN_FILE, CONFIG_FILE, ENVIRONMENT_FILE, METADATA_FILE, TEST_EVALUATIONS_FILE),
    *(CALIBRATION_FILE, HISTORY_FILE, TWIN_HISTORY_FILE, "deployment.json", "report.json"),
    *("report.md", "matrix.md", "*.png", "curves.html", "logs", "checkpoints", "evaluation", f"{ASIDE}*"),
)


@dataclass(frozen=True)
class RunFolder:
    """`runs/<name>/`, as the contract lays it out."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """An existing, finished run. Its calibration may be missing: it can be made anew.

        Raises:
            InputError: if the folder is none, or holds links.
        """
        run = cls(Path(path))
        needed = (MODEL_FILE, METADATA_FILE, CONFIG_FILE)
        missing = [name for name in needed if not (run.path / name).is_file()]
        if missing:
            raise InputError(
                f"{str(path)!r} is not a finished run folder: it lacks {', '.join(missing)}. Make one "
                "with `make demo` or training/fit.py"
            )
        run.check_no_links()
        return run

    @classmethod
    def create(cls, path: str | Path, overwrite: bool) -> "RunFolder":
        """An empty folder for a new run; only the count of looks at the test part outlives an old one.

        Raises:
            InputError: if a finished run, one that was cut, or something that is no run, is in the way, or
                the folder cannot be written.
        """
        run = cls(Path(path))
        if not overwrite:
            run.check_replaceable()
        if run.path.exists():
            run._clear()
        make_folder(run.path)
        return run

    @classmethod
    @contextlib.contextmanager
    def creating(cls, path: str | Path, overwrite: bool) -> Iterator["RunFolder"]:
        """As `create`, as a context in which no other process works in the folder."""
        with cls(Path(path)).locked():
            yield cls.create(path, overwrite)

    def check_replaceable(self) -> None:
        """Raises `InputError` if there is a run that only an overwrite may replace."""
        if self.is_finished:
            raise InputError(
                f"{str(self.path)!r} holds a finished run. Name another folder, or say --overwrite true"
            )
        if self.checkpoints_path.exists():
            raise InputError(
                f"{str(self.path)!r} holds a run that was cut. Go on with it: fit.py with --resume; or start "
                "anew: --overwrite true"
            )

    def check_no_links(self) -> None:
        """Raises `InputError` if the folder holds a link: what is written here could land elsewhere."""
        for folder, below, names in os.walk(self.path):
            for each in (Path(folder, name) for name in (*below, *names)):
                if each.is_symlink():
                    raise InputError(
                        f"The run folder holds a link, {str(each)!r}, through which files elsewhere could "
                        "be overwritten. Put what it leads to in its place"
                    )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other process works in this folder; a process that dies leaves it open.

        Raises:
            InputError: if another one does.
        """
        make_folder(self.path)
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"Another process is working in {str(self.path)!r}. Wait until it ends, or name another run"
            ) from None
        else:
            yield
        finally:
            os.close(handle)

    def _clear(self) -> None:
        # An overwrite that was cut short leaves the count of looks alone, a kill at the start half a file.
        contents = (
            {each.name for each in self.path.iterdir() if not each.name.startswith(ASIDE)}
            - {TEST_EVALUATIONS_FILE}
            if self.path.is_dir()
            else None
        )
        if contents is None or (contents and CONFIG_FILE not in contents):
            raise InputError(f"{str(self.path)!r} exists and is no run folder. Name another one")
        if foreign := sorted(
            name for name in contents if not any(fnmatch.fnmatchcase(name, each) for each in WRITTEN)
        ):
            raise InputError(
                f"{str(self.path)!r} holds {foreign[0]!r}, which is no run's file and would be removed. "
                "Move it away, or name another folder"
            )
        for each in self.path.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            elif each.is_symlink() or each.name != TEST_EVALUATIONS_FILE:
                each.unlink()

    def finish(
        self,
        model: "MultiExitModel",
        config: Config,
        dataset: "Dataset",
        calibration: dict,
        budget_table: "BudgetTable | None" = None,
        config_text: str | None = None,
        replaced_digest: str | None = None,
    ) -> None:
        """Writes a trained model, and the metadata that make this folder a finished run.

        Args:
            model: trained and calibrated.
            config: of the run.
            dataset: it was trained on.
            calibration: what `rdi_keras.training.calibrate` returned.
            budget_table: what `rdi_keras.training.calibrate_budgets` returned.
            config_text: of `config.yaml`, where it is to be another.
            replaced_digest: of the weights that lie here, where there are some.
        """
        described = describe(
            model, dataset.class_names, dataset.name, str(config.epsilon), config.preset, budget_table
        )
        # First, as it names the model to come, and the one until then: where this is cut short, that shows.
        facts = calibration | {"model_digest": described.model_digest}
        if replaced_digest is not None:
            facts["replaced_digest"] = replaced_digest
        write_text(self.path / CALIBRATION_FILE, json.dumps(facts, indent=2) + "\n")
        if config_text is not None:
            write_text(self.path / CONFIG_FILE, config_text)
        save_model(model, self.path / MODEL_FILE)
        described.write(self.path)

    def load_model(self) -> "MultiExitModel":
        """The model of this run.

        Raises:
            InputError: if it cannot be read, or is not the one that metadata and calibration are about.
        """
        model, expected = load_model(self.path / MODEL_FILE), Metadata.read(self.path).model_digest
        if (digest := weights_digest(model)) != expected:
            raise InputError(
                f"{self._another_model(digest, expected)}. If a calibration was cut short, repeat it with "
                f"the same flags: {self.calibrate_command}; else train the run again"
            )
        self.check_calibrated()
        return model

    def check_calibrated(self) -> None:
        """Raises `InputError` if metadata and calibration are about different weights."""
        if not (self.path / CALIBRATION_FILE).exists():
            return  # A model can be read without the rest of its run.
        expected = Metadata.read(self.path).model_digest
        # Runs of earlier versions do not name it.
        if (calibrated := str(self.read_calibration().get("model_digest", expected))) != expected:
            raise InputError(
                f"{CALIBRATION_FILE} in {str(self.path)!r} is about weights {calibrated[:12]}, "
                f"{METADATA_FILE} about {expected[:12]}: a calibration was cut short. Repeat it with the "
                f"same flags: {self.calibrate_command}"
            )

    def model_to_calibrate(self) -> "MultiExitModel":
        """As `load_model`, but a calibration that was cut short is no hindrance: its model is this run's.

        Raises:
            InputError: if it cannot be read, or is another run's.
        """
        model, expected = load_model(self.path / MODEL_FILE), Metadata.read(self.path).model_digest
        try:
            facts = self.read_calibration()
        except InputError:  # Then nothing tells, and all of it is written anew.
            return model
        digest = weights_digest(model)
        if digest not in (expected, facts.get("model_digest"), facts.get("replaced_digest")):
            raise InputError(f"{self._another_model(digest, expected)}. Train the run again")
        return model

    def _another_model(self, digest: str, expected: str) -> str:
        return (
            f"{MODEL_FILE} in {str(self.path)!r} is another model: its weights are {digest[:12]}, "
            f"{METADATA_FILE} names {expected[:12]}"
        )

    @property
    def calibrate_command(self) -> str:
        """The command that sets this run's thresholds anew, to be pasted into a shell."""
        return f"python training/calibrate.py {shlex.quote(str(self.path))}"

    def read_calibration(self) -> dict:
        """What `finish` was told of the calibration.

        Raises:
            InputError: if it cannot be read.
        """
        path = self.path / CALIBRATION_FILE
        try:
            found = read_json(path)
            if not isinstance(found, dict):
                raise ValueError("it holds no fields")
            if type(found.get("temperature", 1)) not in (int, float):
                raise ValueError(f"temperature is {found['temperature']!r}, which is no number")
            return found
        except (OSError, ValueError) as error:
            raise InputError(
                f"Cannot read {str(path)!r}: {error}. Write it anew: {self.calibrate_command}"
            ) from None

    def count_test_evaluation(self, model_digest: str, suite: str) -> None:
        """Notes that the test part is looked at now."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with (self.path / TEST_EVALUATIONS_FILE).open("a") as file:
            print(json.dumps({"time": now, "model": model_digest, "suite": suite}), file=file)

    @property
    def is_finished(self) -> bool:
        """Whether the folder holds a trained model."""
        return (self.path / METADATA_FILE).exists()

    @property
    def checkpoints_path(self) -> Path:
        """Where training keeps what it would go on from, until it ends."""
        return self.path / "checkpoints"

    @property
    def evaluation_path(self) -> Path:
        """Where an evaluation keeps its finished batches until the report is written."""
        return self.path / "evaluation"

    @property
    def test_evaluations(self) -> int:
        """How often the test part has been looked at in this folder."""
        path = self.path / TEST_EVALUATIONS_FILE
        return len(path.read_text().splitlines()) if path.exists() else 0
