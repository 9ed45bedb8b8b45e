"""Turns an uploaded file into what a model sees, and model inputs into pictures to look at."""

import base64
import html
import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rdi_keras.errors import InputError

MAX_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
EXTENSIONS = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff")
CHANNEL_MODES = {1: "L", 3: "RGB"}
SHOWN_SIZE = 640
MIN_VIEW_SIZE = 320

# What Pillow's decoders raise on damaged files.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    MemoryError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Upload:
    """An uploaded image.

    Attributes:
        shown: uint8 `[h, w, 3]`, the upright picture, made smaller where it is large.
        model_input: float32 `[H, W, C]` in [0, 1], what the model sees.
        dark_on_light: for one-channel models: whether the border is brighter than the centre.
    """

    shown: np.ndarray
    model_input: np.ndarray
    dark_on_light: bool


def read_upload(data: bytes, input_shape: Sequence[int]) -> Upload:
    """Reads an image file, turned upright, in the size and the channels that a model takes.

    Transparent parts become white. Of an animation the first frame is taken.

    Args:
        data: the file's bytes.
        input_shape: the model's `[H, W, C]`.

    Raises:
        InputError: no image, damaged, more than `MAX_PIXELS` pixels, or the model's channels are
            neither grey nor red-green-blue.
    """
    height, width, channels = input_shape
    if channels not in CHANNEL_MODES:
        raise InputError(
            f"The model takes images with {channels} channels. An upload can serve models with 1 (grey) "
            "or 3 (red, green, blue). Use a sample instead"
        )
    picture = _decode(data)
    seen = picture.convert(CHANNEL_MODES[channels]).resize((width, height), Image.Resampling.BILINEAR)
    model_input = np.asarray(seen, np.float32).reshape(height, width, channels) / 255
    picture.thumbnail((SHOWN_SIZE, SHOWN_SIZE))
    return Upload(np.asarray(picture), model_input, channels == 1 and _is_dark_on_light(model_input))


def enlarge(image: np.ndarray) -> np.ndarray:
    """A model input `[H, W, C]` as uint8, repeated by pixels so that a browser does not blur it."""
    image = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    factor = max(1, -(-MIN_VIEW_SIZE // max(image.shape[:2])))
    image = image.repeat(factor, axis=0).repeat(factor, axis=1)
    return image[..., 0] if image.shape[-1] == 1 else image[..., :3]


def figures_html(figures: Sequence[tuple[str, np.ndarray]]) -> str:
    """Captions and model inputs as HTML, always in one row, however narrow the page is."""
    boxes = []
    for caption, image in figures:
        file = io.BytesIO()
        Image.fromarray(enlarge(image)).save(file, "PNG")
        source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        caption = html.escape(caption)
        picture = f'<img src="{source}" alt="{caption}" style="width:100%;border-radius:8px">'
        boxes.append(
            f'<figure style="flex:1;min-width:0;margin:0;text-align:center">{picture}'
            f'<figcaption style="font-size:14px">{caption}</figcaption></figure>'
        )
    return f'<div style="display:flex;gap:12px">{"".join(boxes)}</div>'


def _decode(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # Judged below, by our limit.
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_large("far more") from None
    except UnidentifiedImageError:
        raise InputError(
            f"This file is not an image that can be read here. Allowed: {', '.join(FORMATS)}. Save the "
            "picture in one of these formats and upload it again"
        ) from None
    except DECODING_ERRORS as error:
        raise _damaged(error) from None
    # The size stands in the header: nothing has been decoded so far.
    if picture.width * picture.height > MAX_PIXELS:
        raise _too_large(f"{picture.width}×{picture.height}")
    try:
        picture.load()
        return _rgb(ImageOps.exif_transpose(picture))
    except DECODING_ERRORS as error:
        raise _damaged(error) from None


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        # Pillow would cut values off at 255 instead of scaling them down.
        values = np.asarray(picture, np.float32)
        values = values / 65535 if picture.mode != "F" else values / max(float(values.max()), 1.0)
        picture = Image.fromarray(np.uint8(np.round(np.clip(values, 0, 1) * 255)))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _is_dark_on_light(image: np.ndarray) -> bool:
    edge = max(1, min(image.shape[:2]) // 8)
    centre = np.zeros(image.shape[:2], bool)
    centre[edge:-edge, edge:-edge] = True
    return bool(centre.any() and image[~centre].mean() > image[centre].mean())


def _too_large(size: str) -> InputError:
    return InputError(
        f"This image is too large: {size} pixels. Allowed: {MAX_PIXELS // 1_000_000} million pixels in "
        "all. Make it smaller and upload it again"
    )


def _damaged(error: Exception) -> InputError:
    return InputError(
        f"This image is damaged or not complete ({error or type(error).__name__}). Save or export it "
        "again, for instance as PNG, and upload that"
    )
