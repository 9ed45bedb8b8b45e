"""The map of pages. Start from the project's root: `streamlit run app/main.py`."""

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this file's folder on the path; pages import `app` and `rdi_keras` from its parent.
ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from app import models  # noqa: E402

# Not in a folder `pages`: what lies there Streamlit may run without this file.
PAGES = {
    "watch": "Watch it decide",
    "attack": "Attack it",
    "wins": "Three wins",
    "compare": "Compare",
    "batch": "Batch",
    "where": "Where it runs",
    "about": "About",
}

st.set_page_config(page_title="rdi_keras: watch it decide", layout="centered")
page = st.navigation(
    [st.Page(f"views/{name}.py", title=title, default=name == "watch") for name, title in PAGES.items()]
)
st.title(page.title)
found = models.find_models()
if not found:
    st.info(models.HOW_TO_MAKE_ONE)
    st.stop()
with st.spinner("Starting TensorFlow, which takes some seconds the first time"):
    # Not at the top: there is something to show before, and without, TensorFlow.
    from app import parts
with parts.told_errors():
    parts.sidebar(found)
    page.run()
