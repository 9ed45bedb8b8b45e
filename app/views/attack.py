"""The page "Attack it": an attack on one image, step by step."""

import dataclasses
import json
from dataclasses import dataclass

import numpy as np
import streamlit as st

from app import attack, attacking, decision, images, keepsake, parts, picking, player, stages
from app.parts import plain
from rdi_keras.attacks import Trace

st.write(
    "An attack changes each pixel a little, at most by ε, to lead the network astray. It knows the network, "
    "its exits and its thresholds."
)


@dataclass(frozen=True)
class Done:
    """An attack that was run, on what, and what came of it."""

    subject: tuple
    settings: attack.Settings
    trace: Trace
    label: int
    before: decision.Decision
    after: decision.Decision
    way: player.Way
    kept: keepsake.Keepsake


def run(
    chosen: parts.Chosen, settings: attack.Settings, image: np.ndarray, label: int, subject: tuple
) -> Done:
    """Attacks the image, and works out all that the page shows of it."""
    [trace] = attacking.run([chosen], settings, image, label)
    before, after = chosen.decide(image), chosen.decide(trace.image)
    way = player.way_of(chosen.metadata, trace, before, label, chosen.thresholds)
    kept = keepsake.keepsake(chosen.predictor, image, trace.image, settings.epsilon, chosen.thresholds)
    # To look at, half precision does; sessions hold it.
    trace = dataclasses.replace(trace, iterates=trace.iterates.astype(np.float16))
    return Done(subject, settings, trace, label, before, after, way, kept)


def show(chosen: parts.Chosen, picked: picking.Picked, done: Done) -> None:
    """What happened: in a sentence, before and after, step by step, and to take away."""
    trace, settings, before, after = done.trace, done.settings, done.before, done.after
    won = attack.succeeded(before, after, done.label, settings)
    text = attack.verdict(before, after, done.label, chosen.metadata.class_names, settings)
    (st.warning if won else st.success)(plain(text))
    if trace.runs == 0:
        st.info("The clean image already is what the attack wants: nothing was run.")
    elif trace.best is None:
        st.info("Nothing that was tried is stronger than the clean image.")
    change = attack.perturbation(picked.image, trace.image, settings.epsilon)
    parts.show_pictures(("Before", picked.image), ("Change", change), ("After", trace.image))
    st.table({"": ["Answer", "Sure", "Exit", "MACs", "Against the backbone"], **columns(before, after)})
    st.caption(
        f"{plain(str(settings))}. {trace.runs} of {trace.planned} runs. In the picture of the change grey is "
        "none, white +ε, black −ε. The exits on the attacked image:"
    )
    st.html(stages.stages_html(after, images.data_address(trace.image)))
    take_away(chosen, picked, done)
    if len(trace.iterates) > 1:
        step_by_step(chosen, picked, done)


@st.fragment
def step_by_step(chosen: parts.Chosen, picked: picking.Picked, done: Done) -> None:
    """The player: redrawn by itself when its slider moves."""
    st.subheader("Step by step")
    trace, way, last = done.trace, done.way, len(done.trace.iterates) - 1
    solver = done.settings.attack().solver
    if not solver.tells_its_way:
        st.caption("This solver does not tell its way: only the clean image and the result are shown.")
    best = last if trace.best is None else trace.best
    step = st.slider("Step", 0, last, best, key=f"step of {hash(done.subject)}")
    point, image = way.decisions[step], trace.iterates[step].astype(np.float32)
    parts.show_pictures(
        (player.step_text(step, last, solver), image),
        ("its change", attack.perturbation(picked.image, image, done.settings.epsilon)),
    )
    st.write(
        f"Answer **{plain(point.answer)}**, {decision.percent(point.confidence)} sure, at exit {point.exit} "
        f"of {len(point.exits)}, {decision.saving_text(point.saving)}."
    )
    of_class = plain(chosen.metadata.class_names[done.label])
    for kind, alt in ((player.LOSS, f"Loss of {of_class}"), (player.ENTROPY, "Entropy")):
        drawn = player.figure(way, kind, step)
        st.plotly_chart(drawn, key=f"{kind} figure", alt=f"{alt} at every exit over the steps")
    for event in way.events:
        st.write(f"* {plain(event)}")
    if not way.events:
        st.write("On the way neither answer nor exit changes.")


def take_away(chosen: parts.Chosen, picked: picking.Picked, done: Done) -> None:
    """The attacked image and the record of the attack."""
    kept = done.kept
    about = {
        "model": chosen.model.name,
        "model_digest": chosen.metadata.model_digest,
        "thresholds": chosen.thresholds,
        "image": picked.name,
        "label": done.label,
        "png_does_the_same": kept.same,
    }
    facts = attack.record(done.settings, done.trace, about, done.before, done.after)
    with st.container(horizontal=True):
        file = f"{picked.name}-attacked"
        st.download_button("Attacked image (PNG)", kept.data, f"{file}.png", "image/png", on_click="ignore")
        st.download_button(
            "Record (JSON)",
            json.dumps(facts, indent=2),
            f"{file}.json",
            "application/json",
            on_click="ignore",
        )
    answer = f"{kept.decision.answer} at exit {kept.decision.exit}"
    st.caption(
        f"Checked: the PNG, read again, is answered {plain(answer)}, as the image above."
        if kept.same
        else f"A PNG has 256 levels: rounded to them, the image is answered {plain(answer)}, not as above."
    )
    if kept.looks_inverted:
        st.caption("Uploaded again it will look dark on light: switch the swap of light and dark off.")


def columns(before: decision.Decision, after: decision.Decision) -> dict[str, list[str]]:
    """The two columns of the table of before and after."""

    def cells(made: decision.Decision) -> list[str]:
        sure, saving = decision.percent(made.confidence), decision.saving_text(made.saving)
        return [plain(made.answer), sure, str(made.exit), f"{made.macs:,}", saving]

    return {"Before": cells(before), "After": cells(after)}


if parts.chosen().backend is not parts.chosen().predictor:
    st.caption("Attacks are made and judged in this process, not by the server of the sidebar.")
chosen = parts.chosen().here()
picked = picking.choose_image(chosen)
if picked is None:
    st.caption("Upload an image to attack it.")
    st.stop()
label = picking.true_label(picked, chosen.decide(picked.image), chosen.metadata)
settings = attacking.choose_attack(chosen.predictor, label)
subject = (chosen.model.digest, picked.image.tobytes(), label, tuple(chosen.thresholds), settings)
if st.button("Attack", type="primary"):
    st.session_state.pop("attacked", None)
    st.session_state["attacked"] = run(chosen, settings, picked.image, label, subject)
done = st.session_state.get("attacked")
if done is not None and done.subject == subject:
    show(chosen, picked, done)
