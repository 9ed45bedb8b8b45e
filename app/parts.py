"""What pages share: the sidebar's choices, the chooser of images, and how decisions are shown."""

import contextlib
import dataclasses
import functools
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import streamlit as st

from app import backends, decision, images, models, stages, thresholds
from rdi_keras.errors import InputError, ServerError
from rdi_keras.metadata import Metadata
from rdi_keras.serving import Client, Predictor
from rdi_keras.serving.engines import TENSORFLOW

CHOSEN = "chosen"  # Where a page finds the sidebar's choices in the session.


@dataclass(frozen=True)
class Chosen:
    """What the sidebar says.

    Attributes:
        model: which.
        predictor: of it, in this process.
        backend: who decides: the predictor, or a server.
        thresholds: N-1 nats.
    """

    model: models.FoundModel
    predictor: Predictor
    backend: Predictor | backends.Served
    thresholds: list[float]

    @property
    def metadata(self) -> Metadata:
        return self.predictor.metadata

    def logits(self, image: np.ndarray) -> np.ndarray:
        """Every exit's, `[N, C]`. In this process they are asked for once, whatever the thresholds.

        A server is asked every time: it may have changed, or be gone.
        """
        if self.backend is self.predictor:
            return _logits(self.model.digest, self.predictor, image)
        return decision.ask(self.backend, image)

    def decide(self, image: np.ndarray) -> decision.Decision:
        """The decision on an image `[H, W, C]` with the thresholds of the sidebar, by the backend."""
        return decision.decide(self.metadata, self.logits(image), self.thresholds)

    def here(self) -> "Chosen":
        """The same, decided in this process: where attacks run."""
        return dataclasses.replace(self, backend=self.predictor)


def chosen() -> Chosen:
    """The sidebar's choices, for a page."""
    return st.session_state[CHOSEN]


@contextlib.contextmanager
def told_errors() -> Iterator[None]:
    """A context whose errors are told on the page, which stays alive."""
    try:
        yield
    except (InputError, ServerError) as error:
        st.error(plain(str(error)))


def sidebar(found: list[models.FoundModel]) -> None:
    """Model, operating point and server: the same on every page."""
    by_name = {model.name: model for model in found}
    with st.sidebar:
        was = st.session_state.get("model_was")
        if was and was not in by_name:
            st.warning(
                f"The model {plain(was)} is gone: its folder was moved or deleted. Another one is open."
            )
        best = list(by_name).index(models.best(found).name)
        name = st.selectbox("Model", list(by_name), best, key="model", bind="query-params")
        st.session_state["model_was"] = name
        model = by_name[name]
        st.caption(plain(model.facts))
        predictor = open_predictor(str(model.path), model.digest)
        limits = _operating_point(predictor.metadata)
        address = st.text_input(
            "TensorFlow Serving, host:port",
            key="server",
            bind="query-params",
            placeholder="none: in this process",
            help="Decisions then come from that server. Attacks need gradients and run here.",
        ).strip()
    backend: Predictor | backends.Served = predictor
    if address:
        backends.check_allowed(address)
        backend = backends.Served(_client(address, model.served_name), predictor.metadata)
    st.session_state[CHOSEN] = Chosen(model, predictor, backend, limits)


def _operating_point(metadata: Metadata) -> list[float]:
    if metadata.num_exits == 1:
        return []
    doublings = st.slider(
        "Leave later – leave sooner",
        thresholds.LATEST,
        thresholds.SOONEST,
        0,
        key="scale",
        bind="query-params",
        help="Halves or doubles the entropies below which exits answer. 0: as calibrated.",
    )
    st.caption(thresholds.scale_text(doublings).capitalize())
    return thresholds.scaled(metadata.thresholds, doublings, np.log(len(metadata.class_names)))


@st.cache_resource(show_spinner="Opening the model", max_entries=4)
def open_predictor(path: str, digest: str) -> Predictor:
    """Opens a model and tries it out; shared by all visitors.

    Args:
        path: of the model.
        digest: of its files, so that a model trained anew is another entry.

    Raises:
        InputError: if it cannot be opened, or cannot decide on a black image.
    """
    try:
        # TensorFlow, as every page asks for all exits, and attacks need gradients.
        predictor = Predictor(path, TENSORFLOW)
        decision.ask(predictor, np.zeros(predictor.metadata.input_shape, np.float32))
    except InputError:
        raise
    except Exception as error:  # Readers of damaged files raise what they like.
        raise InputError(
            f"Cannot open {path!r}: its files are damaged or do not fit together ({error}). Choose another "
            "model, or train or export this one again"
        ) from None
    # Streamlit collects garbage after every run of a page; what TensorFlow and models hold takes a third of a
    # second to look through, and is none.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    return predictor


@st.cache_resource(show_spinner=False, max_entries=8)
def _client(address: str, name: str) -> Client:
    """Shared by all visitors."""
    return backends.client(address, name)


@st.cache_data(show_spinner=False, max_entries=512)
def _logits(digest: str, _predictor: Predictor, image: np.ndarray) -> np.ndarray:
    return decision.ask(_predictor, image)


def show_decision(made: decision.Decision, image: np.ndarray) -> None:
    """The answer, its cost, and the line of exits."""
    metric = functools.partial(st.metric, width="content", delta_arrow="off")
    last = made.exit == len(made.exits)
    # Streamlit's "normal" is green here and "inverse" red: the arrow, which would tell a sign, is off.
    colour: Literal["normal", "inverse"] = "normal" if made.saving >= 0 else "inverse"
    with st.container(horizontal=True, gap="medium"):
        st.image(images.enlarge(image), "What the model sees", width=150, alt="What the model sees")
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
    st.html(stages.stages_html(made, images.data_address(image)))
    st.caption(
        "MACs are multiply-accumulates, side exits passed on the way included. The backbone without side "
        f"exits takes {made.macs_backbone:,}. The lower bars show entropy on a logarithmic scale, from "
        f"{stages.LEAST:g} nats (certain) to {made.max_entropy:.2f} (no idea); the tick is the threshold."
    )


def show_pictures(*figures: tuple[str, np.ndarray]) -> None:
    """Captions and model inputs in one row."""
    st.html(images.figures_html(figures))


def plain(text: str) -> str:
    """Text that Markdown shows as it is: class names come from data sets and folders."""
    return "".join(f"\\{letter}" if letter in r"\`*_[]$~:<>#|" else letter for letter in text)
