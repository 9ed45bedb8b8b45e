"""The folder of scores: one Parquet file a shard, complete or not there, and a summary at the end."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rdi_keras.errors import InputError
from rdi_keras.files import ASIDE, make_folder, read_json, write_text, written_aside
from rdi_keras.names import exit_names
from rdi_keras.scoring.samples import unseen

SETTINGS_FILE, SUMMARY_FILE, ERRORS_FILE = "settings.json", "summary.json", "errors.parquet"
KEYS = {"path": pa.string(), "index": pa.int64()}
COLUMNS = {
    "true_label": pa.int64(),
    "label": pa.int64(),
    "class_name": pa.string(),
    "probability": pa.float32(),
    "exit": pa.int32(),
    "entropy": pa.float32(),
    "macs": pa.float32(),
    "error": pa.string(),
}


@dataclass(frozen=True)
class ResultFolder:
    """`shard-00000.parquet …`, `settings.json`, and when all is done `errors.parquet` and `summary.json`.

    A row is an image: its key, `true_label` (null where unknown), `label`, `class_name`, `probability` of
    that label, `exit`, `entropy` (nats), `macs`; or, with all these null, the `error` that kept it from being
    scored.

    Attributes:
        path: of the folder.
        key_column: `path` or `index`.
    """

    path: Path
    key_column: str

    @property
    def schema(self) -> pa.Schema:
        """Columns of every Parquet file here."""
        return pa.schema({self.key_column: KEYS[self.key_column], **COLUMNS})

    def open(self, settings: dict[str, Any]) -> None:
        """Makes the folder, or takes up one with the same settings.

        Raises:
            InputError: if it holds scores with other settings, or something else, or cannot be written.
        """
        file = self.path / SETTINGS_FILE
        make_folder(self.path)
        if not file.is_file():
            if any(not each.name.startswith(ASIDE) for each in self.path.iterdir()):
                raise InputError(f"{str(self.path)!r} holds something other than scores. Name another folder")
            write_text(file, json.dumps(settings, indent=2) + "\n")
        self.check(settings)

    def check(self, settings: dict[str, Any]) -> None:
        """Raises `InputError` unless this process finds scores with these settings here."""
        settings = json.loads(json.dumps(settings))
        file = self.path / SETTINGS_FILE
        try:
            before = read_json(file)
        except (FileNotFoundError, NotADirectoryError):
            raise unseen(f"the folder {str(self.path)!r} of this run, with its {SETTINGS_FILE}") from None
        except (OSError, ValueError) as error:
            raise InputError(f"Cannot read {str(file)!r}: {error}. Name another folder") from None
        if before != settings:
            changed = [
                f"{name}: {before.get(name)} there, {settings.get(name)} now"
                for name in sorted({*before, *settings})
                if before.get(name) != settings.get(name)
            ]
            raise InputError(
                f"{str(self.path)!r} holds scores with other settings ({'; '.join(changed)}). Name another "
                "folder, or repeat the command as it was"
            )

    def finished(self) -> set[int]:
        """Numbers of the shards that are there and whole."""
        found = (re.fullmatch(r"shard-(\d+)\.parquet", each.name) for each in self.path.iterdir())
        return {number for number in (int(each[1]) for each in found if each) if self._is_whole(number)}

    def write_shard(self, number: int, rows: list[dict[str, Any]]) -> None:
        """Writes a shard's rows, aside first and then renamed."""
        self._write(self._shard(number), pa.Table.from_pylist(rows, self.schema))

    def read(self) -> pa.Table:
        """All rows of all shards, in the order of the data; takes the memory that this takes."""
        return pa.concat_tables(self._rows(number) for number in sorted(self.finished()))

    def summarise(self, num_exits: int, planned: int) -> dict[str, Any]:
        """Writes `errors.parquet` and `summary.json`, a shard at a time, and returns the latter.

        Args:
            num_exits: of the model.
            planned: number of shards.

        Returns:
            `images`, `scored`, `errors`; `exits`, how many left where; `mean_macs`; `labelled`, how many of
            those scored have a known label, and the `accuracy` on these, `null` if there are none.

        Raises:
            InputError: if a planned shard is missing.
        """
        missing = set(range(planned)) - self.finished()
        if missing:
            raise InputError(
                f"{len(missing)} of {planned} shards are missing in {str(self.path)!r}: removed, or "
                "workers wrote them elsewhere. Repeat the command where every worker sees this folder"
            )
        counts: Counter[str] = Counter()
        exits: Counter[int] = Counter()
        macs, errors = 0.0, [self.schema.empty_table()]
        for number in range(planned):
            table = self._rows(number)
            bad = table.filter(pc.is_valid(table["error"]))
            good = table.filter(pc.is_null(table["error"])).to_pydict()
            pairs = [
                pair for pair in zip(good["true_label"], good["label"], strict=True) if pair[0] is not None
            ]
            counts.update(images=len(table), errors=len(bad), scored=len(table) - len(bad))
            counts.update(labelled=len(pairs), right=sum(true == label for true, label in pairs))
            exits.update(good["exit"])
            macs += sum(good["macs"])
            errors.append(bad)
        summary = {
            **{name: counts[name] for name in ("images", "scored", "errors")},
            "exits": {name: exits[number] for number, name in enumerate(exit_names(num_exits), start=1)},
            "mean_macs": macs / counts["scored"] if counts["scored"] else None,
            "labelled": counts["labelled"],
            "accuracy": counts["right"] / counts["labelled"] if counts["labelled"] else None,
        }
        self._write(self.path / ERRORS_FILE, pa.concat_tables(errors))
        write_text(self.path / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
        for left in self.path.glob(f"{ASIDE}*"):  # By a worker that was killed.
            left.unlink(missing_ok=True)
        return summary

    def errors(self, limit: int) -> list[tuple[str | int, str]]:
        """Key and reason of the first images that could not be scored."""
        found = pq.read_table(self.path / ERRORS_FILE).slice(0, limit).to_pydict()
        return list(zip(found[self.key_column], found["error"], strict=True))

    def _shard(self, number: int) -> Path:
        return self.path / f"shard-{number:05d}.parquet"

    def _rows(self, number: int) -> pa.Table:
        with pq.ParquetFile(self._shard(number), page_checksum_verification=True) as file:
            return file.read()

    def _is_whole(self, number: int) -> bool:
        try:
            return self._rows(number).schema.equals(self.schema)
        except (OSError, pa.ArrowException):
            return False

    def _write(self, file: Path, table: pa.Table) -> None:
        with written_aside(file) as aside:
            pq.write_table(table, aside, write_page_checksum=True)
