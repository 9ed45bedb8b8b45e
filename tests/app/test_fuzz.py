"""Thousands of damaged image files: each is read or refused in words, and memory stays where it was."""

import io
import random
import resource

import numpy as np
import pytest
from PIL import Image

from app import images
from rdi_keras.errors import InputError

# What Pillow says of damaged files that it reads all the same.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

MUTANTS = 2_400
WARM_UP = 400
GROWTH = 128 * 2**20


def originals() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    files = []
    for kind, mode, options in [
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "I;16", {}),
        ("JPEG", "RGB", {"exif": exif}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("GIF", "P", {"save_all": True, "append_images": [picture.convert("P")]}),
        ("WEBP", "RGB", {}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "F", {}),
    ]:
        if mode == "I;16":
            shown = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        else:
            shown = picture.convert(mode)
        file = io.BytesIO()
        shown.save(file, kind, **options)
        files.append(file.getvalue())
    return files


def mutated(data: bytes, chance: random.Random) -> bytes:
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        kind, place = chance.randrange(5), chance.randrange(len(data))
        # Headers decide most, so half of the changes are there.
        place = min(place, chance.randrange(64)) if chance.random() < 0.5 else place
        if kind == 0:
            data[place] = chance.randrange(256)
        elif kind == 1:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del data[place : place + chance.randrange(1, 9)]
        elif kind == 3:
            data[place:place] = chance.randbytes(chance.randrange(1, 9))
        else:
            data[place : place + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
        if len(data) < 2:
            return bytes(data)
    return bytes(data[: chance.randrange(1, len(data))]) if chance.random() < 0.1 else bytes(data)


def test_damaged_files_are_read_or_refused_in_words():
    chance, files = random.Random(0), originals()
    read = refused = before = 0
    for number in range(MUTANTS):
        if number == WARM_UP:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        data = mutated(files[number % len(files)], chance)
        try:
            upload = images.read_upload(data, (8, 8, 3), chance.choice(list(images.FITS)))
        except InputError:
            refused += 1
        else:
            read += 1
            assert upload.model_input.shape == (8, 8, 3)
            assert np.isfinite(upload.model_input).all()
            assert 0 <= upload.model_input.min() <= upload.model_input.max() <= 1
    # Both happen: the changes are neither harmless nor all fatal.
    assert read > MUTANTS // 10
    assert refused > MUTANTS // 10
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    # A picture of the largest size allowed takes most of that, while it is read.
    assert grown < GROWTH, f"{grown / 2**20:.0f} MB"
