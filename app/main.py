"""The map of pages. Start from the project's root: `streamlit run app/main.py`."""

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this file's folder on the path; pages import `app` and `rdi_keras` from its parent.
ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

st.set_page_config(page_title="rdi_keras: watch it decide", layout="centered")
st.navigation([st.Page("pages/watch.py", title="Watch it decide", default=True)]).run()
