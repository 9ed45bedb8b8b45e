import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from app import images
from rdi_keras.errors import InputError

GREY, COLOUR = (8, 8, 1), (8, 8, 3)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


@pytest.mark.parametrize("kind", images.FORMATS)
@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_reads_every_allowed_format(encode, kind, shape):
    upload = images.read_upload(encode(Image.new("RGB", (30, 20), (255, 0, 0)), kind), shape)
    assert upload.model_input.shape == shape
    assert upload.model_input.dtype == np.float32
    assert upload.shown.shape == (20, 30, 3)
    if shape == COLOUR:
        np.testing.assert_allclose(upload.model_input[4, 4], [1, 0, 0], atol=0.02)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_reads_every_mode_into_the_unit_interval(encode, mode):
    kind = {"CMYK": "JPEG", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    upload = images.read_upload(encode(Image.new(mode, (16, 16)), kind), COLOUR)
    assert upload.model_input.shape == COLOUR
    assert 0 <= upload.model_input.min() <= upload.model_input.max() <= 1


def test_16_bit_values_are_scaled_and_not_cut_off(encode):
    picture = Image.fromarray(np.full((8, 8), 32768, np.uint16))
    assert images.read_upload(encode(picture), GREY).model_input.mean() == pytest.approx(0.5, abs=0.01)


def test_transparent_parts_become_white(encode):
    upload = images.read_upload(encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0))), GREY)
    assert upload.model_input.min() == 1


def test_rotation_noted_by_a_camera_is_undone(encode):
    picture = Image.new("L", (16, 8))
    picture.paste(255, (0, 0, 4, 8))  # A bright left edge, in a file that says "turn me clockwise".
    exif = Image.Exif()
    exif[0x0112] = 6
    upload = images.read_upload(encode(picture, exif=exif), GREY, images.STRETCH)
    assert upload.shown.shape == (16, 8, 3)
    assert upload.model_input[0].min() > 0.9
    assert upload.model_input[-1].max() < 0.1


def test_the_view_of_a_large_picture_is_small(encode):
    assert images.read_upload(encode(Image.new("L", (2000, 1000))), GREY).shown.shape == (320, 640, 3)


def test_dark_on_light_is_seen_in_grey_models_only(encode, digit_png):
    assert images.read_upload(digit_png, GREY).dark_on_light
    assert not images.read_upload(digit_png, COLOUR).dark_on_light
    light_on_dark = Image.new("L", (40, 40))
    light_on_dark.paste(255, (15, 15, 25, 25))
    assert not images.read_upload(encode(light_on_dark), GREY).dark_on_light
    assert not images.read_upload(encode(Image.new("L", (40, 40), 255)), GREY).dark_on_light
    assert not images.read_upload(digit_png, (2, 2, 1)).dark_on_light


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an image"),
        (b"%PDF-1.4 some text", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image"),
        (png_header(20_000, 20_000), "20000×20000|far more"),
        (png_header(60_000, 60_000), "too large"),
        (png_header(20, 20), "damaged"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(data, message):
    with pytest.raises(InputError, match=message):
        images.read_upload(data, GREY)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"])
def test_truncated_files_are_refused_in_words(encode, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(Image.fromarray(noise), kind)
    with pytest.raises(InputError, match=r"damaged|not an image"):
        images.read_upload(data[: len(data) // 2], GREY)


def test_the_size_is_judged_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InputError, match="16 million"):
        images.read_upload(png_header(10_000, 10_000), GREY)


def test_models_of_other_channels_cannot_take_uploads(digit_png):
    with pytest.raises(InputError, match="2 channels"):
        images.read_upload(digit_png, (8, 8, 2))


def test_figures_have_alternative_texts_that_cannot_write_html():
    page = images.figures_html([("Before", np.zeros(GREY)), ("<b>", np.zeros(COLOUR))])
    assert page.count("<img") == 2
    assert 'alt="Before"' in page
    assert "<b>" not in page


def test_enlarging_keeps_pixels_sharp():
    image = np.zeros((8, 4, 1), np.float32)
    image[0, 0] = 1
    view = images.enlarge(image)
    assert view.shape == (320, 160)
    assert view.dtype == np.uint8
    assert set(np.unique(view)) == {0, 255}
    assert view[:40, :40].min() == 255
    assert images.enlarge(np.zeros((400, 400, 3))).shape == (400, 400, 3)


@pytest.mark.parametrize("size", [(60, 20), (20, 60), (1, 1), (1, 5000), (3000, 2)])
@pytest.mark.parametrize("fit", images.FITS)
def test_every_shape_is_fitted_and_said(encode, size, fit):
    upload = images.read_upload(encode(Image.new("RGB", size, (40, 80, 120))), COLOUR, fit)
    assert upload.needs_fit == (size[0] != size[1])
    assert any(images.FITS[fit] in note for note in upload.notes) == upload.needs_fit
    # Margins take the border's colour.
    np.testing.assert_allclose(upload.model_input, np.full(COLOUR, np.array([40, 80, 120]) / 255), atol=0.01)


def test_padding_keeps_the_whole_and_cropping_the_centre(encode):
    picture = Image.new("L", (24, 8))
    picture.paste(255, (0, 0, 8, 8))
    whole, centre = (images.read_upload(encode(picture), GREY, fit) for fit in (images.PAD, images.CROP))
    assert whole.model_input.max() > 0.9
    assert centre.model_input.max() < 0.1


def test_an_animation_and_a_turned_photo_are_noted(encode):
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 255)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    upload = images.read_upload(data, GREY)
    assert upload.notes == ("Of an animation the first frame is taken.",)
    assert upload.model_input.max() == 0
    exif = Image.Exif()
    exif[images.ORIENTATION] = 3
    assert "upright" in images.read_upload(encode(frames[0], exif=exif), GREY).notes[0]


def test_a_png_comes_back_pixel_by_pixel():
    random = np.random.default_rng(0)
    for shape in (GREY, COLOUR):
        image = random.integers(0, 256, shape).astype(np.uint8)
        upload = images.read_upload(images.png(image), shape)
        np.testing.assert_array_equal(np.round(upload.model_input * 255), image)


def test_a_phone_s_jpeg_may_be_large_and_its_own_size_is_told(encode):
    data = encode(Image.new("RGB", (6000, 4000), (10, 200, 10)), "JPEG", quality=30)
    upload = images.read_upload(data, COLOUR)
    assert "6000×4000" in upload.notes[0]
    with pytest.raises(InputError, match="16 million"):
        images.read_upload(encode(Image.new("1", (6000, 4000))), COLOUR)
    progressive = encode(Image.new("L", (6000, 4000)), "JPEG", progressive=True)
    thin = encode(Image.new("L", (60_000, 600)), "JPEG")
    for data in (progressive, thin):
        with pytest.raises(InputError, match="16 million"):
            images.read_upload(data, COLOUR)


def test_a_phone_s_photo_with_more_behind_it_is_no_animation(encode):
    picture = Image.new("RGB", (16, 16))
    data = encode(picture, "MPO", save_all=True, append_images=[picture])
    assert images.read_upload(data, COLOUR).notes == ()


def test_a_small_tiff_with_a_huge_tile_is_refused():
    # 1×1 pixels, 8 bits, not compressed, grey, one sample, one tile of 8000×8000 that is not there.
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 277: 1, 322: 8000, 323: 8000, 324: 8, 325: 64_000_000}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    with pytest.raises(InputError, match="8000×8000"):
        images.read_upload(data, GREY)
