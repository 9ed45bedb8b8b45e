"""The chooser of an image: samples, files, camera. Pages share it, and what was uploaded."""

import hashlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import streamlit as st

from app import images, models, samples
from app.decision import Decision
from app.parts import Chosen, plain
from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.metadata import Metadata

SAMPLE, FILES, CAMERA = "Samples", "My images", "Camera"
GALLERY = 9  # Samples shown at once.
THUMB = 64
# In the session: files by name, so that every page has them, and identities of those that were taken.
UPLOADS, SEEN = "uploads", "seen_uploads"
MAX_UPLOADS = 8
MAX_MEGABYTES = 20  # Of one image file, and of all that are kept for other pages.


@dataclass(frozen=True)
class Picked:
    """The image chosen.

    Attributes:
        image: float32 `[H, W, C]`, what the model sees.
        label: its right class; `None` where only the visitor knows.
        name: for captions and files.
    """

    image: np.ndarray
    label: int | None
    name: str


def choose_image(chosen: Chosen) -> Picked | None:
    """The chooser of an image; `None` until there is one."""
    source = samples.sample_source(chosen.metadata)
    kinds = [SAMPLE, FILES, CAMERA] if source else [FILES, CAMERA]
    if source is None:
        st.info(
            f"Samples of the data set {plain(chosen.metadata.dataset)} are not at hand. Upload an image, or "
            f"start the app with {samples.TFDS_VARIABLE} set to the folder of prepared TensorFlow Datasets."
        )
    kind = st.segmented_control(
        "Image", kinds, default=kinds[0], key="image_source", bind="query-params", required=True
    )
    if source is not None and kind == SAMPLE:
        return _sample(source, chosen.metadata)
    return _upload(chosen.metadata) if kind == FILES else _camera(chosen.metadata)


def _sample(source: str, metadata: Metadata) -> Picked:
    test = _load_samples(source, tuple(metadata.input_shape), len(metadata.class_names))

    def show(number: int) -> None:
        st.session_state["sample"] = number

    number = st.number_input(
        f"Test image, 0 to {len(test) - 1}", 0, len(test) - 1, key="sample", bind="query-params"
    )
    number = min(number, len(test) - 1)
    first = min(number // GALLERY * GALLERY, len(test) - 1)
    with st.container(horizontal=True, gap="small"):
        for each in range(first, min(first + GALLERY, len(test))):
            with st.container(width=THUMB, gap=None):
                truth = metadata.class_names[int(test.labels[each])]
                st.image(images.enlarge(test.images[each]), width=THUMB, alt=f"Test image {each}: {truth}")
                kind: Literal["primary", "secondary"] = "primary" if each == number else "secondary"
                st.button(
                    str(each), key=f"pick {each}", on_click=show, args=(each,), type=kind, width="stretch"
                )
    with st.container(horizontal=True):
        st.button("Earlier ones", on_click=show, args=(max(first - GALLERY, 0),), disabled=first == 0)
        later = first + GALLERY
        st.button("Later ones", on_click=show, args=(later,), disabled=later >= len(test))
        st.button("Another one", on_click=lambda: show(random.randrange(len(test))))
    label = int(test.labels[number])
    st.caption(f"Test image {number} of {plain(source)}: really **{plain(metadata.class_names[label])}**")
    return Picked(test.images[number], label, f"{source.replace(':', '-').replace('/', '-')}-{number}")


def _upload(metadata: Metadata) -> Picked | None:
    files = st.file_uploader(
        "Image files",
        type=list(images.EXTENSIONS),
        accept_multiple_files=True,
        max_upload_size=MAX_MEGABYTES,
        key="upload",
    )
    kept, seen = st.session_state.setdefault(UPLOADS, {}), st.session_state.setdefault(SEEN, set())
    for file in files:
        if file.file_id in seen:
            continue
        seen.add(file.file_id)
        if file.size > MAX_MEGABYTES * 2**20:
            st.error(plain(f"{file.name} is larger than {MAX_MEGABYTES} MB. Make it smaller"))
            continue
        data = file.getvalue()
        again = (name for name, other in kept.items() if other == data)
        name = next(again, None) or next(name for name in _names(file.name) if name not in kept)
        kept[name] = data
        st.session_state["upload_name"] = name
    while len(kept) > MAX_UPLOADS or sum(map(len, kept.values())) > MAX_MEGABYTES * 2**20:
        kept.pop(next(iter(kept)))  # The oldest.
    if not kept:
        return None
    st.button("Forget these images", on_click=kept.clear)
    names = list(kept)[::-1]
    name = st.selectbox("Which of your images", names, key="upload_name") if len(names) > 1 else names[0]
    return _seen(kept[name], name, metadata)


def _names(name: str) -> Iterator[str]:
    """The name, then others like it."""
    yield name
    stem, dot, ending = name.rpartition(".")
    yield from (f"{stem or ending}-{number}{dot}{ending if stem else ''}" for number in itertools.count(2))


def _camera(metadata: Metadata) -> Picked | None:
    photo = st.camera_input("Take a photo", key="camera")
    return None if photo is None else _seen(photo.getvalue(), "photo", metadata)


def _seen(data: bytes, name: str, metadata: Metadata) -> Picked:
    """A file beside what the model sees of it."""
    shape, key = tuple(metadata.input_shape), hashlib.sha256(data).hexdigest()[:16]
    upload = _read(data, shape, images.PAD)
    if upload.needs_fit:
        fit = st.segmented_control(
            "How it is fitted", list(images.FITS), default=images.PAD, required=True, key=f"fit {key}"
        )
        upload = _read(data, shape, fit)
    image = upload.model_input
    if image.shape[-1] == 1:
        # The key makes every file start from its own proposal.
        if st.toggle("Swap light and dark", value=upload.dark_on_light, key=f"invert {key}"):
            image = 1 - image
        if upload.dark_on_light:
            st.caption(
                "The border is brighter than the centre, so this looks dark on light. Data sets of grey "
                "images mostly are light on dark, so light and dark are swapped unless you switch that off."
            )
    left, right = st.columns(2, wrap=False)
    left.image(upload.shown, "Your image", width="stretch", alt="The uploaded image")
    size = models.size_text(metadata.input_shape)
    right.image(
        images.enlarge(image), f"What the model sees: {size}", width="stretch", alt="What the model sees"
    )
    for note in upload.notes:
        st.caption(plain(note))
    names = ", ".join(metadata.class_names[:12]) + (", …" if len(metadata.class_names) > 12 else "")
    st.caption(
        f"The model knows nothing but {plain(names)}. A photo of anything else gets one of these answers "
        "too; a high entropy at every exit is the only hint."
    )
    return Picked(image, None, name.rpartition(".")[0] or name)


@st.cache_resource(show_spinner="Loading samples", max_entries=4)
def _load_samples(source: str, input_shape: tuple[int, ...], num_classes: int) -> Split:
    """Shared by all visitors: read only."""
    return samples.load_samples(source, input_shape, num_classes)


@st.cache_data(show_spinner="Reading the image", max_entries=16)
def _read(data: bytes, input_shape: tuple[int, ...], fit: str) -> images.Upload:
    """Decodes a file once, not at every click on the page."""
    return images.read_upload(data, input_shape, fit)


def true_label(picked: Picked, made: Decision, metadata: Metadata) -> int:
    """The class that an attack leads away from: the sample's own, or the one the visitor names."""
    if picked.label is not None:
        return picked.label
    named = st.selectbox(
        "What is it really? The attack leads away from that",
        metadata.class_names,
        made.label,
        key=f"label of {hashlib.sha256(picked.image.tobytes()).hexdigest()[:12]}",
    )
    if named is None:
        raise InputError("Name the class that the image really is")
    return metadata.class_names.index(named)
