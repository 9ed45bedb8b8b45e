"""The page "Watch it decide": one image through one model, clean and attacked."""

import hashlib
import random
from dataclasses import dataclass

import numpy as np
import streamlit as st

from app import images, models
from rdi_keras.errors import InputError

st.title("Watch it decide")
st.write(
    "The network has several exits. An image leaves at the first exit that is sure enough: whose entropy is "
    "below its threshold. Easy images leave early and cost less."
)

found = models.find_models()
if not found:
    st.info(models.HOW_TO_MAKE_ONE)
    st.stop()

with st.spinner("Starting TensorFlow, which takes some seconds the first time"):
    # Not at the top: this page has something to show before, and without, TensorFlow.
    from app import attack, decision, parts, samples, stages
    from app.parts import plain
    from rdi_keras.serving import Predictor

SAMPLE, UPLOAD = "A sample", "My own image"


@dataclass(frozen=True)
class Picked:
    """The image chosen, and the class that an attack leads away from (`None`: the clean answer)."""

    image: np.ndarray
    label: int | None


@st.cache_resource(show_spinner=False, max_entries=32)
def compiled_attack(path: str, digest: str, objective: str, epsilon: float, num_steps: int):
    """Compiled at its first use; later clicks with the same settings reuse it."""
    return attack.compile_attack(
        parts.open_predictor(path, digest), attack.Settings(objective, epsilon, num_steps)
    )


@st.cache_resource(show_spinner="Loading samples", max_entries=4)
def load_samples(source: str, input_shape: tuple[int, ...], num_classes: int):
    """Shared by all visitors: read only."""
    return samples.load_samples(source, input_shape, num_classes)


@st.cache_data(show_spinner="Reading the image", max_entries=8)
def read_upload(data: bytes, input_shape: tuple[int, ...]) -> images.Upload:
    """Decodes a file once, not at every click on the page."""
    return images.read_upload(data, input_shape)


def choose_image(predictor: Predictor) -> Picked | None:
    """The chooser of an image; `None` until there is one."""
    metadata = predictor.metadata
    source = samples.sample_source(metadata)
    if source is None:
        st.info(
            f"Samples of the data set {plain(metadata.dataset)} are not at hand. Upload an image, or start "
            f"the app with {samples.TFDS_VARIABLE} set to a folder where TensorFlow Datasets has prepared it."
        )
        return pick_upload(metadata)
    kind = st.radio("Image", [SAMPLE, UPLOAD], horizontal=True, key="image_source")
    return pick_sample(source, metadata) if kind == SAMPLE else pick_upload(metadata)


def pick_sample(source: str, metadata) -> Picked:
    """A sample by its number, or any."""
    test = load_samples(source, tuple(metadata.input_shape), len(metadata.class_names))
    key = f"sample of {source}"

    def another() -> None:
        st.session_state[key] = random.randrange(len(test))

    left, right = st.columns([2, 1], vertical_alignment="bottom")
    number = left.number_input(f"Test image, 0 to {len(test) - 1}", 0, len(test) - 1, key=key)
    right.button("Another one", on_click=another, width="stretch")
    image, label = test.images[number], int(test.labels[number])
    truth = metadata.class_names[label]
    caption = f"Test image {number} of {source}: really {truth}"
    st.image(images.enlarge(image), plain(caption), width=180, alt=caption)
    return Picked(image, label)


def pick_upload(metadata) -> Picked | None:
    """An uploaded image beside what the model sees of it."""
    file = st.file_uploader("Image file", type=list(images.EXTENSIONS), key="upload")
    if file is None:
        return None
    data = file.getvalue()
    upload = read_upload(data, tuple(metadata.input_shape))
    image = upload.model_input
    if image.shape[-1] == 1:
        # The key makes every file start from its own proposal.
        key = f"invert {hashlib.sha256(data).hexdigest()}"
        if st.toggle("Swap light and dark", value=upload.dark_on_light, key=key):
            image = 1 - image
        if upload.dark_on_light:
            st.caption(
                "The border is brighter than the centre, so this looks dark on light. Data sets of digits "
                "are light on dark, so light and dark are swapped unless you switch that off."
            )
    left, right = st.columns(2, wrap=False)
    left.image(upload.shown, "Your image", width="stretch", alt="The uploaded image")
    size = models.size_text(metadata.input_shape)
    right.image(
        images.enlarge(image), f"What the model sees: {size}", width="stretch", alt="What the model sees"
    )
    return Picked(image, None)


def choose_attack(predictor: Predictor) -> attack.Settings:
    """The chooser of an attack."""
    offered = attack.objectives(predictor.num_exits)
    objective = st.selectbox(
        "What the attack maximises the loss of",
        list(offered),
        format_func=lambda name: f"{name}: {offered[name]}",
        key=f"objective of {predictor.num_exits} exits",
    )
    default, largest, step = attack.epsilon_range(predictor.metadata.epsilon_value)
    left, right = st.columns(2)
    epsilon = left.slider(
        "ε, largest change of a pixel (pixels lie in 0 to 1)",
        0.0,
        largest,
        default,
        step,
        format="%.3f",
        key=f"epsilon {default}",
    )
    num_steps = right.slider("Steps", 1, 100, 20, key="steps")
    settings = attack.Settings(objective, float(epsilon), int(num_steps))
    forward, backward = settings.attack().most_passes(predictor)
    st.caption(
        f"At most {forward} forward and {backward} backward passes. The model was trained against "
        f"ε = {predictor.metadata.epsilon}. The attacker knows the model and its thresholds."
    )
    return settings


def attack_section(model: models.FoundModel, predictor: Predictor, picked: Picked, clean) -> None:
    """The attack's choosers, its button, and before and after once it ran on this very image."""
    st.subheader("Attack it")
    names = predictor.metadata.class_names
    label = clean.label if picked.label is None else picked.label
    whose = "the model's own clean answer" if picked.label is None else "the sample's true class"
    st.write(
        f"The attack leads away from **{plain(names[label])}**, {whose}, by changing each pixel a little."
    )
    settings = choose_attack(predictor)
    subject = (model.path, model.digest, picked.image.tobytes(), label)
    if st.button("Attack", type="primary"):
        with st.spinner("Attacking"):
            ready = compiled_attack(
                str(model.path), model.digest, settings.objective, settings.epsilon, settings.num_steps
            )
            attacked = attack.attack_image(ready, picked.image, label, predictor.thresholds)
        st.session_state["attacked"] = (subject, settings, attacked)
    was_subject, used, attacked = st.session_state.get("attacked", (None, None, None))
    if was_subject == subject:
        show_before_and_after(predictor, picked.image, attacked, used, label)


def show_before_and_after(predictor: Predictor, before, after, used: attack.Settings, label: int) -> None:
    """Images, answers, exits and costs side by side."""
    first, second = decision.decide(predictor, before), decision.decide(predictor, after)
    fooled, text = attack.verdict(first, second, label, predictor.metadata.class_names)
    (st.warning if fooled else st.success)(plain(text))
    pictures = (
        ("Before", before),
        ("Change", attack.perturbation(before, after, used.epsilon)),
        ("After", after),
    )
    st.html(images.figures_html(pictures))
    st.table({"": ["Answer", "Sure", "Exit", "MACs", "Against the backbone"], **columns(first, second)})
    st.caption(
        f"Attack: {plain(str(used))}. In the picture of the change grey is none, white +ε, black −ε. "
        "The exits on the attacked image:"
    )
    st.html(stages.stages_html(second))


def columns(before: decision.Decision, after: decision.Decision) -> dict[str, list[str]]:
    """The two columns of the table of before and after."""

    def cells(made: decision.Decision) -> list[str]:
        sure, saving = decision.percent(made.confidence), decision.saving_text(made.saving)
        return [plain(made.answer), sure, str(made.exit), f"{made.macs:,}", saving]

    return {"Before": cells(before), "After": cells(after)}


def show() -> None:
    """The page, from top to bottom."""
    model = parts.choose_model(found)
    predictor = parts.open_predictor(str(model.path), model.digest)
    picked = choose_image(predictor)
    if picked is None:
        st.caption("Upload an image to see how the model decides on it.")
        return
    clean = decision.decide(predictor, picked.image)
    parts.show_decision(clean)
    attack_section(model, predictor, picked, clean)


try:
    show()
except InputError as error:
    st.error(plain(str(error)))
