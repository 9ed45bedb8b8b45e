"""The choosers of an attack, and its run with a bar and a way to cancel; pages share them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import attack
from app.gate import Gate
from app.parts import Chosen, plain
from rdi_keras.attacks import Trace
from rdi_keras.serving import Predictor

POLL_SECONDS = 0.1


@st.cache_resource
def gate() -> Gate:
    """One attack at a time, whoever asks: attacks take all cores."""
    return Gate()


@st.cache_resource(max_entries=4)
def loops(digest: str) -> dict:
    """A model's compiled loops, shared by all visitors."""
    return {}


def choose_attack(predictor: Predictor, label: int) -> attack.Settings:
    """The choosers of an attack; all of it stands in the page's address."""
    names, num_exits = predictor.metadata.class_names, predictor.num_exits
    goals = list(attack.GOALS)[: 2 if num_exits == 1 else 3]
    goal = st.segmented_control(
        "The attacker wants", goals, default=goals[0], key="goal", bind="query-params", required=True
    )
    target = None
    if goal == attack.CHOSEN:
        wrong = [name for number, name in enumerate(names) if number != label]
        target = names.index(st.selectbox("Which class", wrong, key="target", bind="query-params"))
    offered = attack.objectives(goal, num_exits, target)
    key = f"objective_{'late' if goal == attack.LATE else 'wrong'}"
    options = {f"{name}: {line}": name for name, line in offered.items()}
    if len(options) > 1:
        objective = options[
            st.selectbox(
                "What it maximises the loss of", list(options), key=f"{key}_{num_exits}", bind="query-params"
            )
        ]
    else:
        objective = next(iter(offered))
    left, right = st.columns(2)
    solver = left.selectbox(
        "Solver",
        list(attack.SOLVERS),
        key="solver",
        bind="query-params",
        help="; ".join(f"{name}: {line}" for name, line in attack.SOLVERS.items()),
    )
    default, largest = attack.epsilon_range(predictor.metadata.epsilon_value)
    of_255 = right.slider(
        "ε, in 255ths: largest change of a pixel",
        0.0,
        largest,
        default,
        0.5,
        format="%.1f/255",
        key=f"eps_{default:g}",
        bind="query-params",
    )
    num_steps, restarts = 1, 1
    if solver != "FGSM":
        most = 500 if solver == "Square" else 100
        num_steps = left.slider("Steps", 1, most, 20, key=f"steps_{most}", bind="query-params")
    if solver in ("PGD", "APGD", "Square"):
        restarts = right.slider("Restarts", 1, 5, 1, key="restarts", bind="query-params")
    settings = attack.Settings(objective, solver, float(of_255) / 255, int(num_steps), int(restarts))
    forward, backward = settings.attack().most_passes(predictor)
    st.caption(
        f"At most {forward} forward and {backward} backward passes. The model was trained against "
        f"ε = {plain(predictor.metadata.epsilon)}."
    )
    return settings


def run(subjects: Sequence[Chosen], settings: attack.Settings, image: np.ndarray, label: int) -> list[Trace]:
    """Attacks one image on one or more models, with a bar; a click on Cancel, or on anything, ends it.

    Raises:
        InputError: if too many others attack already, or the settings do not fit a model.
    """
    place = st.empty()
    with place.container():
        bar = st.progress(0.0, "Waiting")
        st.button("Cancel", key="cancel", help="Ends the attack; nothing is kept of it")
    try:
        with gate().entered(lambda ahead: bar.progress(0.0, f"Waiting: {ahead} ahead")):
            return [_run(chosen, settings, image, label, bar) for chosen in subjects]
    finally:
        place.empty()


def _run(
    chosen: Chosen, settings: attack.Settings, image: np.ndarray, label: int, bar: DeltaGenerator
) -> Trace:
    """One attack in a thread of its own, so that a click can end it between two steps."""
    ready = attack.ready(chosen.predictor, settings, loops(chosen.model.digest))
    steps = max(len(ready.attack.runs(chosen.predictor)) * settings.num_steps, 1)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(ready.trace, image, label, chosen.thresholds, attack.SEED)
        try:
            while not wait([future], POLL_SECONDS).done:
                done = min(ready.steps, steps)
                # Any click makes Streamlit raise here.
                bar.progress(done / steps, plain(f"{chosen.model.name}: step {done} of at most {steps}"))
            return future.result()
        finally:
            while not future.done():  # Once may be too early: it may not have begun.
                ready.stop()
                wait([future], POLL_SECONDS)
