"""Pieces that pages share; beside the pages, the only module that knows Streamlit."""

import functools

import numpy as np
import streamlit as st

from app import decision, models, stages
from rdi_keras.errors import InputError
from rdi_keras.serving import Predictor


@st.cache_resource(show_spinner="Opening the model", max_entries=4)
def open_predictor(path: str, digest: str) -> Predictor:
    """Opens a model and tries it out.

    Args:
        path: of the model.
        digest: of its files, so that a model trained anew is another entry.

    Raises:
        InputError: if it cannot be opened, or cannot decide on a black image.
    """
    try:
        predictor = Predictor(path)
        decision.decide(predictor, np.zeros(predictor.metadata.input_shape, np.float32))
    except InputError:
        raise
    except Exception as error:  # Readers of damaged files raise what they like.
        raise InputError(
            f"Cannot open {path!r}: its files are damaged or do not fit together ({error}). Choose another "
            "model, or train or export this one again"
        ) from None
    return predictor


def choose_model(found: list[models.FoundModel]) -> models.FoundModel:
    """The chooser of models."""
    by_path = {str(model.path): model for model in found}
    path = st.selectbox("Model", list(by_path), format_func=lambda path: by_path[path].label, key="model")
    return by_path[path]


def show_decision(made: decision.Decision) -> None:
    """The answer, its cost, and the line of exits."""
    st.subheader("The decision")
    metric = functools.partial(st.metric, width="content", delta_arrow="off")
    last = made.exit == len(made.exits)
    # Streamlit's "normal" is green here and "inverse" red: the arrow, which would tell a sign, is off.
    colour = "normal" if made.saving >= 0 else "inverse"
    with st.container(horizontal=True, gap="medium"):
        sure = f"{decision.percent(made.confidence)} sure"
        metric("Answer", plain(made.answer), sure, delta_color="off")
        metric(
            "Exit",
            f"{made.exit} of {len(made.exits)}",
            "the last one" if last else "left early",
            delta_color="off",
        )
        metric(
            "Compute, in MACs",
            decision.compact(made.macs),
            decision.saving_text(made.saving),
            delta_color=colour,
        )
    st.html(stages.stages_html(made))
    st.caption(
        "MACs are multiply-accumulates, side exits passed on the way included. The backbone without side "
        f"exits takes {made.macs_backbone:,}. Bars show entropy from 0 (certain) to {made.max_entropy:.2f} "
        "nats (no idea); the tick is the threshold."
    )


def plain(text: str) -> str:
    """Text that Markdown shows as it is: class names come from data sets and folders."""
    return "".join(f"\\{letter}" if letter in r"\`*_[]$~:<>#|" else letter for letter in text)
