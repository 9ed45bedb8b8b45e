"""Turns an uploaded file into what a model sees, and model inputs into pictures to look at."""

import base64
import html
import io
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rdi_keras.errors import InputError

# A JPEG is decoded at a fraction of its size, but for progressive ones.
MAX_PIXELS, MAX_JPEG_PIXELS = 16_000_000, 64_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
EXTENSIONS = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff")
CHANNEL_MODES = {1: "L", 3: "RGB"}
SHOWN_SIZE = 640
MIN_VIEW_SIZE = 320
# How an image of another shape than the model's is fitted.
PAD, CROP, STRETCH = "pad", "crop", "stretch"
FITS = {
    PAD: "the whole image, with margins in the colour of its border",
    CROP: "its centre, cut out",
    STRETCH: "the whole image, stretched",
}
SAME_SHAPE = 0.02  # Ratios of width to height as near as this need no fitting.

ORIENTATION = 0x0112  # The EXIF tag.
JPEGS = ("JPEG", "MPO")  # The latter come from phones, with further pictures behind the first.
TILE_SIZE = (322, 323)  # TIFF tags.
# Images that are decoded at once: each may take three bytes a pixel, and more on the way.
_DECODERS = threading.Semaphore(2)


@dataclass(frozen=True)
class Upload:
    """An uploaded image.

    Attributes:
        shown: uint8 `[h, w, 3]`, the upright picture, made smaller where it is large.
        model_input: float32 `[H, W, C]` in [0, 1], what the model sees.
        dark_on_light: for one-channel models: whether the border is brighter than the centre.
        notes: sentences on what was done to it, for a reader.
        needs_fit: whether its shape is another than the model's.
    """

    shown: np.ndarray
    model_input: np.ndarray
    dark_on_light: bool
    notes: tuple[str, ...]
    needs_fit: bool


def read_upload(data: bytes, input_shape: Sequence[int], fit: str = PAD) -> Upload:
    """Reads an image file, turned upright, in the size and the channels that a model takes.

    Transparent parts become white. Of an animation the first frame is taken.

    Args:
        data: the file's bytes.
        input_shape: the model's `[H, W, C]`.
        fit: `pad`, `crop` or `stretch`.

    Raises:
        InputError: no image, damaged, too many pixels, or the model's channels are
            neither grey nor red-green-blue.
    """
    height, width, channels = input_shape
    if channels not in CHANNEL_MODES:
        raise InputError(
            f"The model takes images with {channels} channels. An upload can serve models with 1 (grey) "
            "or 3 (red, green, blue). Use a sample instead"
        )
    picture, (found_width, found_height), notes = _decode(data, max(SHOWN_SIZE, height, width))
    needs_fit = abs(found_width * height / (found_height * width) - 1) > SAME_SHAPE
    if needs_fit:
        notes.append(f"{found_width}×{found_height} pixels are not of the model's shape: {FITS[fit]}.")
    seen = _fitted(picture.convert(CHANNEL_MODES[channels]), (width, height), fit if needs_fit else STRETCH)
    model_input = np.asarray(seen, np.float32).reshape(height, width, channels) / 255
    picture.thumbnail((SHOWN_SIZE, SHOWN_SIZE))
    dark_on_light = channels == 1 and _is_dark_on_light(model_input)
    return Upload(np.asarray(picture), model_input, dark_on_light, tuple(notes), needs_fit)


def enlarge(image: np.ndarray) -> np.ndarray:
    """A model input `[H, W, C]` as uint8, repeated by pixels so that a browser does not blur it."""
    image = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    factor = max(1, -(-MIN_VIEW_SIZE // max(image.shape[:2])))
    image = image.repeat(factor, axis=0).repeat(factor, axis=1)
    return image[..., 0] if image.shape[-1] == 1 else image[..., :3]


def png(image: np.ndarray) -> bytes:
    """A model input `[H, W, C]`, rounded to 1/255, or uint8 pixels, as a PNG file, pixel by pixel."""
    if image.dtype != np.uint8:
        image = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()


def data_address(image: np.ndarray) -> str:
    """An image as `png` takes it, as the address of an HTML picture."""
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


def figures_html(figures: Sequence[tuple[str, np.ndarray]]) -> str:
    """Captions and model inputs as HTML, always in one row, however narrow the page is."""
    boxes = []
    for caption, image in figures:
        caption = html.escape(caption)
        picture = (
            f'<img src="{data_address(enlarge(image))}" alt="{caption}" style="width:100%;border-radius:8px">'
        )
        boxes.append(
            f'<figure style="flex:1;min-width:0;max-width:240px;margin:0;text-align:center">{picture}'
            f'<figcaption style="font-size:14px">{caption}</figcaption></figure>'
        )
    return f'<div style="display:flex;gap:12px">{"".join(boxes)}</div>'


def _fitted(picture: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    if fit == STRETCH:
        return picture.resize(size, Image.Resampling.BILINEAR)
    if fit == CROP:
        return ImageOps.fit(picture, size, Image.Resampling.BILINEAR)
    scale = min(size[0] / picture.width, size[1] / picture.height)
    inner = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = picture.resize(inner, Image.Resampling.BILINEAR)
    edges = np.asarray(small)
    border = np.concatenate([edges[0], edges[-1], edges[:, 0], edges[:, -1]])
    colour = np.median(border, axis=0).astype(int)
    filled = Image.new(picture.mode, size, int(colour) if colour.ndim == 0 else tuple(map(int, colour)))
    filled.paste(small, ((size[0] - small.width) // 2, (size[1] - small.height) // 2))
    return filled


def _decode(data: bytes, enough: int) -> tuple[Image.Image, tuple[int, int], list[str]]:
    """The picture, its size in the file once upright, and what was done to it.

    A JPEG may come smaller than it is, but with `enough` pixels a side.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # Judged below, by our limit.
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_large("far more", MAX_PIXELS) from None
    except UnidentifiedImageError:
        raise InputError(
            f"This file is not an image that can be read here. Allowed: {', '.join(FORMATS)}. Save the "
            "picture in one of these formats and upload it again"
        ) from None
    except Exception as error:  # Decoders raise what they like on damaged files.
        raise _damaged(error) from None
    _check_size(picture)
    size, notes = picture.size, []
    try:
        with _DECODERS:
            if getattr(picture, "is_animated", False) and picture.format not in JPEGS:
                notes.append("Of an animation the first frame is taken.")
            orientation = picture.getexif().get(ORIENTATION, 1)
            picture.draft("RGB", (enough, enough))
            if picture.width * picture.height > MAX_PIXELS:  # Long and thin: it does not get smaller.
                raise _too_large(f"{size[0]}×{size[1]}", MAX_PIXELS)
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            if orientation in range(2, 9):
                notes.append("It was turned upright, as the camera noted.")
            if orientation in range(5, 9):
                size = size[::-1]
            if picture.has_transparency_data:
                notes.append("Transparent parts are shown on white.")
            return _rgb(upright), size, notes
    except InputError:
        raise
    except Exception as error:
        raise _damaged(error) from None


def _check_size(picture: Image.Image) -> None:
    """Raises `InputError` by what stands in the header: nothing has been decoded so far."""
    reduced = picture.format in JPEGS and not picture.info.get("progressive")
    most = MAX_JPEG_PIXELS if reduced else MAX_PIXELS
    if picture.width * picture.height > most:
        raise _too_large(f"{picture.width}×{picture.height}", most)
    tags = getattr(picture, "tag_v2", {})
    # The tiles of a TIFF are decoded whole, however small the picture is.
    tile = [tags.get(tag, 0) for tag in TILE_SIZE]
    if any(not isinstance(each, int) for each in tile) or tile[0] * tile[1] > most:
        raise _too_large("×".join(map(str, tile)), most)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        # Pillow would cut values off at 255 instead of scaling them down.
        values = np.asarray(picture)
        if picture.mode == "F":
            scaled = np.clip(values * (255 / max(float(values.max()), 1.0)), 0, 255)
        else:
            scaled = np.clip(values >> 8, 0, 255)
        picture = Image.fromarray(scaled.astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _is_dark_on_light(image: np.ndarray) -> bool:
    edge = max(1, min(image.shape[:2]) // 8)
    centre = np.zeros(image.shape[:2], bool)
    centre[edge:-edge, edge:-edge] = True
    return bool(centre.any() and image[~centre].mean() > image[centre].mean())


def _too_large(size: str, most: int) -> InputError:
    return InputError(
        f"This image is too large: {size} pixels. Allowed: {most // 1_000_000} million pixels in "
        "all. Make it smaller and upload it again"
    )


def _damaged(error: Exception) -> InputError:
    return InputError(
        f"This image is damaged or not complete ({error or type(error).__name__}). Save or export it "
        "again, for instance as PNG, and upload that"
    )
