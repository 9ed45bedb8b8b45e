"""The page "Where it runs": in this process, or on a server."""

import streamlit as st

from app import backends, parts
from app.parts import plain

chosen = parts.chosen()
predictor = chosen.predictor
if isinstance(chosen.backend, backends.Served):
    st.write(f"Decisions come from **{plain(chosen.backend.client.address)}**.")
    st.success(plain(backends.state_of(chosen.backend)))
else:
    st.write(f"Decisions are made **in this process**, by {predictor.engine}.")
st.write(
    "Another place is named in the sidebar: the address of TensorFlow Serving's gRPC port, such as "
    "`localhost:8500`. Attacks need gradients, so they always run in this process, on the same model."
)
st.code(
    "make serve                # a server with the models in saved_models/, on localhost:8500", language="sh"
)
st.write("The model on the server has the name of its folder in `saved_models/`.")
if predictor.num_exits > 1:
    st.subheader("The same image, both ways")
    st.caption(
        "Whether answers agree can be seen on the page Watch it decide: set the server, then remove it."
    )
