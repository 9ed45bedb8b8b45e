"""The Streamlit app: `main.py` maps the pages, `pages/` draws them, the other modules know no Streamlit."""
