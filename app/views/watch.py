"""The page "Watch it decide": one image through one model."""

import numpy as np
import streamlit as st

from app import decision, parts, picking, thresholds
from rdi_keras.inference import entropy

st.write(
    "The network has several exits. An image leaves at the first exit that is sure enough: whose entropy is "
    "below its threshold. Easy images leave early and cost less."
)


LOWEST = -8.0  # Powers of ten, nats.


def own_thresholds(chosen: parts.Chosen, entropies: list[float]) -> list[float]:
    """A slider for each threshold, where the visitor wants one; in powers of ten."""
    with st.expander("Each exit's threshold by itself"):
        if not st.toggle("Set them here instead of in the sidebar", key="own", bind="query-params"):
            st.caption("The sidebar's slider moves all of them together.")
            return chosen.thresholds
        st.caption("The sidebar's slider is not used on this page now.")
        most = thresholds.above(float(np.log(len(chosen.metadata.class_names))))
        highest = round(float(np.log10(most)) + 0.005, 2)
        limits = []
        for number, (limit, found) in enumerate(zip(chosen.metadata.thresholds, entropies, strict=False), 1):
            start = round(float(np.clip(np.log10(max(limit, 10**LOWEST)), LOWEST, highest)), 2)
            power = st.slider(
                f"Exit {number}: log10 of its threshold in nats; this image's entropy is "
                f"10^{np.log10(max(found, 1e-12)):.1f}",
                LOWEST,
                highest,
                start,
                0.01,
                # Another model has other thresholds.
                key=f"threshold_{number}_{chosen.metadata.model_digest[:6]}",
                bind="query-params",
            )
            limits.append(limit if power == start else min(10.0**power, most))
        return limits


chosen = parts.chosen()
picked = picking.choose_image(chosen)
if picked is None:
    st.caption("Upload an image to see how the model decides on it.")
    st.stop()
logits = chosen.logits(picked.image)
st.subheader("The decision")
place, limits = st.container(), chosen.thresholds
if limits:
    limits = own_thresholds(chosen, np.asarray(entropy(logits)).tolist())
with place:
    parts.show_decision(decision.decide(chosen.metadata, logits, limits), picked.image)
