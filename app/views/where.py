"""The page "Where it runs": in this process, or on a server."""

import streamlit as st

from app import backends, parts
from app.parts import plain

chosen = parts.chosen()
if isinstance(chosen.backend, backends.Served):
    st.write(f"Decisions come from **{plain(chosen.backend.client.address)}**.")
    st.success(plain(backends.state_of(chosen.backend)))
else:
    st.write("Decisions are made **in this process**, by TensorFlow.")
st.write(
    "Another place is named in the sidebar: the address of TensorFlow Serving's gRPC port, such as "
    "`localhost:8500`. Attacks need gradients, so they always run in this process, on the same model."
)
st.code(
    "make serve                # a server with the models in saved_models/, on localhost:8500", language="sh"
)
st.write("The model on the server has the name of its folder in `saved_models/`.")
