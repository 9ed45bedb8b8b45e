"""Bad input to everything that takes input: a right answer or `InputError`, and nothing else."""

import contextlib
import dataclasses
import io
import json
import os
import random
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

import rdi_keras as rdi
from app import archive
from app.images import FITS, read_upload
from benchmarks.soak.by_hand import ask_grpc, ask_rest
from benchmarks.soak.damage import flipped, mutated, odd_json, truncated
from benchmarks.soak.fitting import ROOT, Whole
from benchmarks.soak.known import Known, misshapen
from benchmarks.soak.network import HOST, MODEL, Server
from benchmarks.soak.odd import request
from benchmarks.soak.tally import LOST, RIGHT, Tally
from rdi_keras.cli.options import dump_config, load_config, parse_config
from rdi_keras.data.folder import read_image
from rdi_keras.evaluation.report import read_report
from rdi_keras.metadata import Metadata
from rdi_keras.presets import Config, preset
from rdi_keras.serving.client import Client

SHIPPED = ROOT / "saved_models" / "digits" / "1"
YAML = (
    *("!!python/object/apply:os.system ['true']", "!!python/name:os.system", "&a [*a, *a]", "a: &a {b: *a}"),
    *("training: [1, 2]", "training: {epochs: ten}", "seed: 1e400", "? {a: 1}\n: b", "\t", "%", "---\n---\n"),
    *("data: {name: [x]}", "- a\n- b", "preset: nowhere", "nothing: 1", "'", "{", "data: null", "1", "null"),
    *("a: &a [x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]", "epsilon: {a: b}", "model: {exits_after: {1: 2}}"),
)


def run(tally: Tally, seconds: float, chance: random.Random, folder: Path, whole: Whole) -> None:
    """One input after the other until the time is up, of which everything that takes input has its share."""
    folder.mkdir(parents=True)
    digits = rdi.data.load("digits").test
    known = Known.of(SHIPPED, digits.images[:64])
    quick = rdi.Predictor(SHIPPED, engine="onnxruntime")
    shutil.copytree(SHIPPED.parent, folder / MODEL)
    server = Server(folder / MODEL)
    address = {name: f"{HOST}:{port}" for name, port in server.ports.items()}
    clients = {name: Client(each, MODEL, transport=name) for name, each in address.items()}
    subjects: dict[str, Callable[[], None]] = {
        "Predictor.predict, ONNX Runtime": partial(_predict, tally, known, quick.predict, chance),
        "Predictor.predict, TensorFlow": partial(_predict, tally, known, known.predictor.predict, chance),
        "Client.predict, gRPC": partial(_predict, tally, known, clients["grpc"].predict, chance),
        "Client.predict, REST": partial(_predict, tally, known, clients["rest"].predict, chance),
        "Client.predict_files": partial(
            _files, tally, known, clients["grpc"], _pictures(digits.images), chance
        ),
        "REST by hand": partial(ask_rest, tally, known, server, chance),
        "gRPC by hand": partial(ask_grpc, tally, known, address["grpc"], chance),
        "image uploaded to the app": partial(_upload, tally, _pictures(digits.images), chance),
        "image in a folder": partial(_read, tally, _pictures(digits.images), chance),
        "ZIP archive": partial(_archive, tally, chance),
        "configuration (YAML)": partial(_config, tally, folder / "config.yaml", chance),
        "metadata.json": partial(_metadata, tally, folder / "metadata", digits.images[:4], chance),
        "report.json": partial(_report, tally, folder / "report", chance),
    }
    spent, deadline = dict.fromkeys(subjects, 0.0), time.monotonic() + seconds
    try:
        with warnings.catch_warnings(), _libraries_silent():
            warnings.simplefilter("ignore")  # Pillow's of damaged files, numpy's of huge numbers.
            while not all(spent.values()) or time.monotonic() < deadline:
                name = min(spent, key=spent.get)
                begun = time.monotonic()
                subjects[name](name)
                spent[name] += time.monotonic() - begun
        tally.note("server still there", RIGHT if server.is_running else LOST, "it ended")
    finally:
        for each in clients.values():
            each.close()
        server.end()


@contextlib.contextmanager
def _libraries_silent() -> Iterator[None]:
    """A context in which nothing reaches standard error: decoders write there past Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _predict(tally: Tally, known: Known, predict: Callable, chance: random.Random, name: str) -> None:
    asked = request(known, chance)
    tally.judge(
        name,
        lambda: predict(asked.images, **asked.how),
        lambda answer: asked.rows is None or known.wrong(answer, asked.rows, asked.limits),
        lambda: asked.said,
        refusal=asked.rows is None,
    )


def _pictures(images: np.ndarray) -> list[bytes]:
    """Image files of several kinds."""
    pixels = np.round(images[0, ..., 0] * 255).astype(np.uint8)
    grey, colour = Image.fromarray(pixels), Image.fromarray(np.stack([pixels, pixels.T, pixels], axis=-1))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [
        *[(grey, "PNG", {}), (colour, "PNG", {}), (colour.convert("P"), "PNG", {})],
        *[(colour.convert("RGBA"), "PNG", {}), (Image.fromarray(pixels.astype(np.uint16) * 257), "PNG", {})],
        *[(colour, "JPEG", {"exif": exif}), (colour.convert("CMYK"), "JPEG", {}), (grey, "JPEG", {})],
        *[(colour, "JPEG", {"progressive": True}), (colour, "WEBP", {}), (colour, "BMP", {})],
        *[(colour, "TIFF", {"compression": "tiff_lzw"}), (colour.convert("P"), "GIF", {})],
    ]
    files = []
    for picture, kind, options in kinds:
        file = io.BytesIO()
        picture.resize((24, 30)).save(file, kind, **options)
        files.append(file.getvalue())
    return files


def _damaged(files: list[bytes], chance: random.Random) -> bytes:
    return chance.choice((mutated, mutated, flipped, truncated))(chance.choice(files), chance)


def _files(
    tally: Tally, known: Known, client: Client, files: list[bytes], chance: random.Random, name: str
) -> None:
    sent = [_damaged(files, chance) for _ in range(chance.randrange(1, 3))]
    metadata = known.predictor.metadata
    wrong = partial(misshapen, classes=len(metadata.class_names), exits=metadata.num_exits)
    tally.judge(name, lambda: client.predict_files(sent), wrong, lambda: repr(sent))


def _upload(tally: Tally, files: list[bytes], chance: random.Random, name: str) -> None:
    data, fit = _damaged(files, chance), chance.choice(list(FITS))

    def wrong(upload) -> str | None:
        pixels = upload.model_input
        fine = pixels.shape == (8, 8, 3) and pixels.min() >= 0 and pixels.max() <= 1
        return None if fine else f"{pixels.shape}, {pixels.min()} to {pixels.max()}"

    tally.judge(name, lambda: read_upload(data, (8, 8, 3), fit), wrong, lambda: repr(data))


def _read(tally: Tally, files: list[bytes], chance: random.Random, name: str) -> None:
    data = _damaged(files, chance)

    def wrong(pixels: np.ndarray) -> str | None:
        return None if pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8 else f"{pixels.shape}"

    tally.judge(name, lambda: read_image(io.BytesIO(data), 8), wrong, lambda: repr(data))


def _archive(tally: Tally, chance: random.Random, name: str) -> None:
    file = io.BytesIO()
    names = ("a.png", "b/c.png", "../out.png", "/etc/x", "C:\\x", "b/", "__MACOSX/x", "ü.png", "x" * 300)
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", chance.choice((0, 8, 12, 14))) as made:
        for _ in range(chance.randrange(5)):
            made.writestr(chance.choice(names), chance.randbytes(chance.randrange(200)))
    data = mutated(file.getvalue(), chance) if chance.random() < 0.8 else file.getvalue()

    def wrong(found: list) -> str | None:
        bad = [each for each in found if (each.data is None) == (each.error is None) or ".." in each.name]
        return f"{bad}" if any(each.data is not None for each in bad) else None

    tally.judge(
        name, lambda: list(archive.members(io.BytesIO(data), archive.Allowance())), wrong, lambda: repr(data)
    )


def _config(tally: Tally, file: Path, chance: random.Random, name: str) -> None:
    text = chance.choice(YAML) if chance.random() < 0.3 else None
    if text:
        data = text.encode()
    elif chance.random() < 0.5:  # JSON is YAML.
        data = odd_json(json.dumps(dataclasses.asdict(preset("digits"))), chance)
    else:
        data = mutated(dump_config(preset("digits")).encode(), chance)
    file.write_bytes(data)

    def wrong(config) -> str | None:
        return None if isinstance(config, Config) else f"{config!r}"

    if chance.random() < 0.5:
        tally.judge(
            name, lambda: parse_config("", ["--config", str(file)])[0], wrong, lambda: f"--config {data!r}"
        )
    else:
        words = data.decode(errors="replace")
        tally.judge(name, lambda: load_config(words), wrong, lambda: repr(words))


def _metadata(tally: Tally, folder: Path, images: np.ndarray, chance: random.Random, name: str) -> None:
    if not folder.exists():
        folder.mkdir()
        shutil.copy(SHIPPED / "adaptive.onnx", folder)
        (folder / "saved_model.pb").touch()  # A model is what has such a file; it is not opened for answers.
    data = odd_json((SHIPPED / "metadata.json").read_text(), chance)
    (folder / "metadata.json").write_bytes(data)
    budget = {"budget": 0.5} if chance.random() < 0.5 else {}

    def ask():
        return rdi.Predictor(folder, engine="onnxruntime").predict(images, **budget)

    tally.judge(name, ask, partial(misshapen, classes=10, exits=3), lambda: repr(data))


def _report(tally: Tally, folder: Path, chance: random.Random, name: str) -> None:
    folder.mkdir(exist_ok=True)
    data = odd_json((SHIPPED / "report.json").read_text(), chance)
    (folder / "report.json").write_bytes(data)
    metadata = Metadata.read(SHIPPED)
    tally.judge(name, lambda: read_report(folder, metadata), lambda report: None, lambda: repr(data)[:300])
