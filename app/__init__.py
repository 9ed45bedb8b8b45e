"""The Streamlit app: `main.py` maps the pages, `views/` draws them, the other modules know no Streamlit."""
