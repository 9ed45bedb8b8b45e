"""The page "Batch": many images at once."""

from collections.abc import Iterable, Iterator, Sequence

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app import archive, batch, images, parts
from app.decision import saving_text
from app.gate import Gate
from app.parts import plain

SHOWN = 500  # Rows on the page; the files hold all.

chosen = parts.chosen()
st.write(
    "A ZIP archive or many image files, each decided by the model of the sidebar at its operating point. "
    f"At most {archive.MAX_FILES:,} images; `training/score.py` takes folders of any size."
)
folder = st.toggle("A whole folder", key="batch_folder", bind="query-params")
uploads = st.file_uploader(
    "A folder of images" if folder else "ZIP archive, or images",
    type=list(images.EXTENSIONS) if folder else ["zip", *images.EXTENSIONS],
    accept_multiple_files="directory" if folder else True,
    key=f"batch_files_{folder}",
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
invert = chosen.metadata.input_shape[-1] == 1 and st.toggle(
    "Swap light and dark where an image looks dark on light",
    value=True,
    key="batch_invert",
    bind="query-params",
)


def files_of(uploads: Iterable[UploadedFile]) -> Iterator[archive.Member]:
    """All files, those inside archives too, one at a time."""
    allowance = archive.Allowance()
    for upload in uploads:
        if is_archive(upload):
            yield from archive.members(upload, allowance)
            continue
        allowance.take(files=1, size=upload.size)
        if upload.size > archive.MAX_FILE_BYTES:
            yield archive.Member(upload.name, None, "it is larger than an image may be")
        else:
            yield archive.Member(upload.name, upload.getvalue())


def is_archive(upload: UploadedFile) -> bool:
    """Whether an upload holds others."""
    return upload.name.lower().endswith(".zip")


def score(uploads: Sequence[UploadedFile]) -> list[batch.Row]:
    """All rows, with a bar; a click on Cancel, or on anything, ends it."""
    total = sum(archive.count(each) if is_archive(each) else 1 for each in uploads)
    place, done = st.empty(), 0
    with place.container():
        bar = st.progress(0.0, "Waiting")
        st.button("Cancel", key="cancel_batch")

    def on_file() -> None:
        nonlocal done
        done += 1
        bar.progress(min(done / max(total, 1), 1.0), f"{done:,} of {total:,} files")

    try:
        with gate().entered(lambda ahead: bar.progress(0.0, f"Waiting: {ahead} ahead")):
            found = batch.score(
                chosen.backend, files_of(uploads), chosen.thresholds, fit, bool(invert), on_file
            )
            return list(found)
    finally:
        place.empty()


@st.cache_resource
def gate() -> Gate:
    """One batch at a time, whoever asks."""
    return Gate()


if not uploads:
    st.session_state.pop("scored", None)
    st.stop()
server = getattr(chosen.backend, "client", None)
settings = (chosen.model.digest, server and server.address, tuple(chosen.thresholds), fit, bool(invert))
subject = (*settings, *(each.file_id for each in uploads))
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
    st.write(f"{mean:,.0f} MACs per image: {saving_text(1 - mean / chosen.metadata.macs_backbone)}.")
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
