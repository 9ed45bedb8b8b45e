"""A folder of images, one sub-folder a class."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from rdi_keras.data.dataset import Dataset, Split, split_dataset
from rdi_keras.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}
# What files of these names may hold. Pillow would read more kinds, one of them by starting a program.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MAX_PIXELS = 50_000_000  # A file of some kilobytes may unpack to gigabytes.
TRAIN, TEST = "train", "test"


def load_folder(path: str | Path, image_size: int | None = None) -> Dataset:
    """Reads `PATH/<class>/*.png` (or `.jpg`, …); the classes are the sub-folders, sorted.

    If the folder holds `train/` and `test/`, those are the parts, each with one sub-folder a class.
    Otherwise test data are held out. If every image is grey, images have one channel, else three.

    Args:
        path: the folder.
        image_size: height and width to resize to. Without it all images must have one size.

    Raises:
        InputError: no such folder, no or one class, an empty class, unreadable or unequal images.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"No folder of images at {str(path)!r}. Give a folder with one sub-folder a class")
    if (path / TRAIN).is_dir() and (path / TEST).is_dir():
        class_names, train = _read(path / TRAIN, image_size)
        test_names, test = _read(path / TEST, image_size)
        if test_names != class_names or test.images.shape[1:] != train.images.shape[1:]:
            raise InputError(
                f"The classes and image shapes of {TRAIN}/ and {TEST}/ in {str(path)!r} must be the "
                f"same. Received: {', '.join(class_names)} at {train.images.shape[1:]} and "
                f"{', '.join(test_names)} at {test.images.shape[1:]}"
            )
    else:
        (class_names, train), test = _read(path, image_size), None
    return split_dataset(f"folder:{path}", class_names, train, test)


def _read(path: Path, image_size: int | None) -> tuple[tuple[str, ...], Split]:
    folders = sorted(each for each in path.iterdir() if each.is_dir() and each.name[0] != ".")
    if len(folders) < 2:
        raise InputError(
            f"A folder of images needs at least two classes, one sub-folder each. Received: "
            f"{len(folders)} in {str(path)!r}"
        )
    images, labels = [], []
    for label, folder in enumerate(folders):
        files = sorted(each for each in folder.iterdir() if each.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(
                f"The class folder {str(folder)!r} has no image. Allowed: "
                f"{', '.join(sorted(SUFFIXES))}. Add images or remove the folder"
            )
        images += [read_image(file, image_size) for file in files]
        labels += [label] * len(files)
    shapes = {image.shape[:2] for image in images}
    if len(shapes) > 1:
        raise InputError(
            f"The images in {str(path)!r} have {len(shapes)} sizes, such as "
            f"{' and '.join(f'{h}×{w}' for h, w in sorted(shapes)[:2])}. Give an image size to "
            "resize them to (--data.image_size)"
        )
    stacked = np.stack(images)
    if (stacked == stacked[..., :1]).all():
        stacked = stacked[..., :1]
    names = tuple(folder.name for folder in folders)
    return names, Split(stacked.astype(np.float32) / 255, np.asarray(labels, np.int64))


def read_image(file: Path | BinaryIO, image_size: int | None) -> np.ndarray:
    """uint8 `[H, W, 3]`, turned upright as its EXIF data say.

    Raises:
        InputError: if it is no file of `FORMATS`, is damaged, or has more than `MAX_PIXELS` pixels.
    """
    from PIL import Image, ImageOps

    try:
        if isinstance(file, Path) and not file.is_file():  # A pipe would keep who opens it waiting.
            raise ValueError("it is no file")
        with Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"{opened.width}×{opened.height} pixels are more than {MAX_PIXELS:,}")
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits a pixel: convert() alone would cut them off at 255.
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            image = image.convert("RGB")
    except Exception as error:  # Pillow passes on whatever its decoders raise.
        raise InputError(f"Cannot read the image {str(file)!r}: {error}") from None
    if image_size is not None:
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(image)
