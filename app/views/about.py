"""The page "About": the model's card, its limits, and how to cite."""

import streamlit as st

from app import parts
from app.parts import plain
from rdi_keras.errors import InputError
from rdi_keras.evaluation import read_report
from rdi_keras.evaluation.tables import three_wins, title

CITATION = """@inproceedings{hu2020triple,
  title     = {Triple Wins: Boosting Accuracy, Robustness and Efficiency Together by Enabling
               Input-Adaptive Inference},
  author    = {Hu, Ting-Kuei and Chen, Tianlong and Wang, Haotao and Wang, Zhangyang},
  booktitle = {International Conference on Learning Representations},
  year      = {2020}
}"""

chosen = parts.chosen()
metadata = chosen.metadata
st.subheader("The model")
limits = ", ".join(f"{each:.4g}" for each in metadata.thresholds) or "none: it has one exit"
macs = ", ".join(f"{each:,}" for each in metadata.macs_per_exit)
facts = {
    "Model": chosen.model.name,
    "Data": metadata.dataset,
    "Classes": ", ".join(metadata.class_names),
    "Images": "×".join(map(str, metadata.input_shape)),
    "Trained against": f"L∞ ε = {metadata.epsilon}",
    "Exits": str(metadata.num_exits),
    "Thresholds, nats": limits,
    "MACs up to each exit": macs,
    "MACs of the backbone": f"{metadata.macs_backbone:,}",
    "Preset": metadata.preset,
    "Weights": metadata.model_digest[:12],
    "Made by": f"rdi_keras {metadata.package_version}",
}
st.table({"": list(facts), "This model": [plain(each) for each in facts.values()]})
st.subheader("What was measured")
try:
    report = read_report(chosen.model.path, metadata)
    for line in [title(report), *three_wins(report)]:
        st.write(f"* {plain(line)}")
except InputError as error:
    st.info(plain(str(error)))
st.subheader("Limits")
st.write(
    """
* It answers with one of its classes, whatever the image shows.
* Robust means: right under every attack of the suite inside the ball of radius ε. Stronger attacks, larger
  changes, and changes of another kind (turned, blurred, patched) are not covered. It is no proof.
* Under attack samples leave late: the saving is that of clean images, and the worst case may cost more than
  the backbone.
* Thresholds were set on held-out images of the same data. On other data samples leave elsewhere.
"""
)
st.subheader("To cite")
st.write("The method, *Robust Dynamic Inference Networks*:")
st.code(CITATION, language="bibtex")
