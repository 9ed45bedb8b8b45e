"""The page "Batch": many images at once."""

import streamlit as st

from app import archive, batch, images, parts
from app.parts import plain

MAX_MEGABYTES = 200
SHOWN = 500  # Rows on the page; the files hold all.

chosen = parts.chosen()
st.write(
    "A ZIP archive or many image files, each decided by the model of the sidebar at its operating point. "
    f"At most {archive.MAX_FILES:,} images; `training/score.py` takes folders of any size."
)
uploads = st.file_uploader(
    "ZIP archive, or images",
    type=["zip", *images.EXTENSIONS],
    accept_multiple_files=True,
    max_upload_size=MAX_MEGABYTES,
    key="batch_files",
)
fit = st.segmented_control(
    "Images of another shape",
    list(images.FITS),
    default=images.PAD,
    key="batch_fit",
    bind="query-params",
    required=True,
    help="; ".join(f"{name}: {line}" for name, line in images.FITS.items()),
)


def files_of(uploads):
    """All files, those inside archives too, one at a time."""
    for upload in uploads:
        if upload.name.lower().endswith(".zip"):
            yield from archive.members(upload)
        elif upload.size > archive.MAX_FILE_BYTES:
            yield archive.Member(upload.name, None, "it is larger than an image may be")
        else:
            yield archive.Member(upload.name, upload.getvalue())


def score(uploads) -> list[batch.Row]:
    """All rows, with a bar; a click on Cancel, or on anything, ends it."""
    place, rows = st.empty(), []
    with place.container():
        bar = st.progress(0.0, "Reading")
        st.button("Cancel", key="cancel_batch")
        for row in batch.score(chosen.backend, files_of(uploads), chosen.thresholds, fit):
            rows.append(row)
            if len(rows) % 16 == 0:
                bar.progress(len(rows) / archive.MAX_FILES, f"{len(rows):,} images")
    place.empty()
    return rows


if not uploads:
    st.session_state.pop("scored", None)
    st.stop()
subject = (
    chosen.model.digest,
    str(chosen.backend),
    tuple(chosen.thresholds),
    fit,
    *(each.file_id for each in uploads),
)
if st.button("Decide all", type="primary"):
    st.session_state.pop("scored", None)
    st.session_state["scored"] = (subject, score(uploads))
was, rows = st.session_state.get("scored", (None, None))
if was != subject:
    st.stop()
good = [row for row in rows if row.error is None]
st.subheader(f"{len(good):,} of {len(rows):,} images were read")
if good:
    counts = batch.exit_counts(rows, chosen.predictor.num_exits)
    mean = sum(row.macs for row in good) / len(good)
    st.plotly_chart(batch.histogram(counts), alt="How many images leave at each exit")
    st.write(
        f"{mean:,.0f} MACs per image, "
        f"{100 * (1 - mean / chosen.metadata.macs_backbone):.1f} % less than the backbone takes."
    )
    if any(row.inverted for row in good):
        st.caption("Dark-on-light images were inverted, as the column says.")
st.dataframe(batch.table(rows[:SHOWN]), hide_index=True, alt="Answer, exit and compute of every image")
if len(rows) > SHOWN:
    st.caption(f"The first {SHOWN} of {len(rows):,} rows; the files hold all.")
with st.container(horizontal=True):
    st.download_button("CSV", batch.csv(rows), "decisions.csv", "text/csv", on_click="ignore")
    st.download_button(
        "Parquet", batch.parquet(rows), "decisions.parquet", "application/octet-stream", on_click="ignore"
    )
for row in [row for row in rows if row.error is not None][:5]:
    st.warning(plain(f"{row.name}: {row.error}"))
