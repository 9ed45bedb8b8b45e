"""The page "Compare": two models, the same image, the same attack."""

import contextlib

import numpy as np
import streamlit as st

from app import attack, attacking, decision, images, models, parts, picking, stages
from app.parts import plain
from rdi_keras.errors import InputError
from rdi_keras.metadata import Metadata

st.write("Two models look at the same image; each is then attacked with the same settings.")


def choose_other(chosen: parts.Chosen) -> parts.Chosen | None:
    """Another model that takes the same images and knows the same classes, at its own thresholds."""
    shape, names = chosen.metadata.input_shape, chosen.metadata.class_names
    fitting = {}
    for model in models.find_models():
        with contextlib.suppress(InputError):  # Choosing it in the sidebar tells why.
            metadata = Metadata.read(model.path)
            if model.path != chosen.model.path and (metadata.input_shape, metadata.class_names) == (
                shape,
                names,
            ):
                fitting[model.name] = model
    if not fitting:
        st.info(
            f"There is no second model here that takes {models.size_text(shape)} images with the same "
            "classes. Train one, for instance with another defence: `python training/fit.py --name other "
            "--training.attack.objective average`"
        )
        return None
    model = fitting[st.selectbox("The other model", list(fitting), key="other", bind="query-params")]
    predictor = parts.open_predictor(str(model.path), model.digest)
    return parts.Chosen(model, predictor, predictor, predictor.thresholds.tolist())


def show(
    subject: parts.Chosen,
    image: np.ndarray,
    attacked: np.ndarray | None,
    label: int,
    settings: attack.Settings | None,
) -> None:
    """One model's column: its decision, and what the attack made of it."""
    st.subheader(plain(subject.model.name))
    before = subject.decide(image)
    st.write(f"**{plain(before.answer)}** at exit {before.exit}, {decision.saving_text(before.saving)}")
    st.html(stages.stages_html(before, images.data_address(image)))
    if attacked is None or settings is None:
        return
    after = subject.decide(attacked)
    won = attack.succeeded(before, after, label, settings)
    names = subject.metadata.class_names
    (st.warning if won else st.success)(plain(attack.verdict(before, after, label, names, settings)))
    change = attack.perturbation(image, attacked, settings.epsilon)
    parts.show_pictures(("Change", change), ("After", attacked))
    st.html(stages.stages_html(after, images.data_address(attacked)))


chosen = parts.chosen().here()
other = choose_other(chosen)
if other is None:
    st.stop()
picked = picking.choose_image(chosen)
if picked is None:
    st.stop()
label = picking.true_label(picked, chosen.decide(picked.image), chosen.metadata)
fewest = min((chosen, other), key=lambda each: each.predictor.num_exits)
settings = attacking.choose_attack(fewest.predictor, label)
digests = (chosen.model.digest, other.model.digest)
subject = (*digests, picked.image.tobytes(), label, settings, tuple(chosen.thresholds))
if st.button("Attack both", type="primary"):
    st.session_state.pop("compared", None)
    traces = attacking.run([chosen, other], settings, picked.image, label)
    # Their ways are not shown; sessions hold this.
    st.session_state["compared"] = (subject, settings, [each.image for each in traces])
was, used, attacked = st.session_state.get("compared", (None, None, None))
if was != subject:
    used, attacked = None, (None, None)
for column, each, found in zip(st.columns(2), (chosen, other), attacked, strict=True):
    with column:
        show(each, picked.image, found, label, used)
