"""The page "Watch it decide": one image through one model."""

import numpy as np
import streamlit as st

from app import decision, parts, picking, thresholds

st.write(
    "The network has several exits. An image leaves at the first exit that is sure enough: whose entropy is "
    "below its threshold. Easy images leave early and cost less."
)


def own_thresholds(metadata, limits: list[float], entropies: list[float]) -> list[float]:
    """A slider for each threshold, where the visitor wants one; in powers of ten."""
    with st.expander("Each exit's threshold by itself"):
        if not st.toggle("Set them here instead of in the sidebar", key="own", bind="query-params"):
            st.caption("The sidebar's slider moves all of them together.")
            return limits
        most = thresholds.above(float(np.log(len(metadata.class_names))))
        lowest, highest = -8.0, round(float(np.log10(most)), 2) + 0.01
        chosen = []
        for number, (limit, found) in enumerate(zip(limits, entropies, strict=False), start=1):
            start = round(float(np.clip(np.log10(max(limit, 1e-8)), lowest, highest)), 2)
            power = st.slider(
                f"Exit {number}: log10 of its threshold in nats; this image's entropy is "
                f"10^{np.log10(max(found, 1e-12)):.1f}",
                lowest,
                highest,
                start,
                0.01,
                key=f"threshold_{number}",
                bind="query-params",
            )
            chosen.append(min(10.0**power, most))
        return chosen


chosen = parts.chosen()
picked = picking.choose_image(chosen)
if picked is None:
    st.caption("Upload an image to see how the model decides on it.")
    st.stop()
logits = chosen.logits(picked.image)
made = chosen.decide(picked.image)
st.subheader("The decision")
place = st.container()
if made.exits[0].threshold is not None:
    entropies = [each.entropy for each in made.exits]
    made = decision.decide(
        chosen.metadata, logits, own_thresholds(chosen.metadata, chosen.thresholds, entropies)
    )
with place:
    parts.show_decision(made, picked.image)
