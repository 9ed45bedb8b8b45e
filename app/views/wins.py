"""The page "Three wins": the model's report, and the choice of an operating point."""

import streamlit as st

from app import parts, wins
from app.parts import plain
from rdi_keras.evaluation import read_report
from rdi_keras.evaluation.tables import LEGEND, remarks, title

chosen = parts.chosen()
report = read_report(chosen.model.path, chosen.metadata)
st.write(
    f"{plain(title(report))}. The twin is the same backbone with its last exit only, trained and attacked "
    "alike."
)
with st.container(horizontal=True, gap="medium"):
    for name, ours, twin in wins.headline(report):
        st.metric(name, ours, twin, delta_color="off", delta_arrow="off", width="content")
for flag in report["flags"]:
    st.error(f"Not to be believed ({plain(flag['name'])}): {plain(flag['message'])}")

st.subheader("Accuracy")
st.plotly_chart(wins.accuracy_figure(report), alt="Accuracy under every attack, beside the twin's")
st.subheader("Where samples leave")
st.plotly_chart(
    wins.exits_figure(report), alt="Share of samples that leaves at each exit, under every attack"
)

points = wins.points(report)
if points:
    st.subheader("Choose an operating point")

    def use() -> None:
        """The sidebar's slider goes there, so that every page decides with it."""
        st.session_state["scale"] = next(
            each.doublings for each in points if each.text == st.session_state["point"]
        )

    texts = [each.text for each in points]
    start = next((number for number, each in enumerate(points) if each.doublings == 0), 0)
    st.selectbox("Of those measured", texts, start, key="point")
    st.button("Use it on the other pages", on_click=use)
    st.caption(
        "On the curves' own samples and attacks, fewer than the table's. The calibrated thresholds are × 1."
    )
for heading, figure in wins.curve_figures(report).items():
    st.subheader(heading)
    st.plotly_chart(figure, alt=heading)

st.subheader("The whole table")
st.dataframe(wins.table(report), hide_index=True, alt="Accuracy, compute and exits under every attack")
st.caption(LEGEND)
others = wins.published(report)
if others:
    st.subheader("Published by others")
    st.dataframe(others, hide_index=True, alt="Published figures on the same data")
    st.caption(
        "For orientation: other attacks, all test images, and thresholds that were not always held out."
    )
for line in remarks(report):
    st.caption(plain(line))
