"""Every trial of the soak for some seconds, and whether it would see what it looks for."""

import errno
import io
import os
import random
import re
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from app import archive
from benchmarks.soak import command, files, fitting, inputs, scoring, serving, training
from benchmarks.soak.fitting import Whole
from benchmarks.soak.known import Known
from benchmarks.soak.tally import LOST, REFUSED, RIGHT, Tally, table
from rdi_keras.cli import options
from rdi_keras.errors import InputError
from rdi_keras.inference.calibration import exits_at
from rdi_keras.runs import RunFolder
from rdi_keras.serving.predictor import Prediction, Predictor
from rdi_keras.serving.transports import CallFailed
from rdi_keras.serving.versions import VersionedModel

# With these fewer images and steps a trial takes seconds.
SMALL = ("--epsilon=0", "--training.adversarial_weight=0", "--data.train_limit=128", "--training.epochs=2")
SECONDS = {training: 8, serving: 8, scoring: 3, files: 4, inputs: 4}


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "SETTINGS", (*fitting.SETTINGS, *SMALL))
        patch.setattr(scoring, "IMAGES", 400)
        patch.setattr(scoring, "DAMAGED", 20)
        patch.setattr(serving, "IMAGES", 8)
        yield


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """The training that nothing happens to."""
    whole = Whole(tmp_path_factory.mktemp("whole"))
    assert whole.seconds > 0
    return whole


@pytest.fixture(scope="module")
def tallies(whole, tmp_path_factory):
    """Of all trials, two at a time: most of the time they wait for processes to start."""
    folder, found = tmp_path_factory.mktemp("soak"), {trial: Tally() for trial in SECONDS}
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(trial.run, found[trial], seconds, random.Random(1), folder / trial.__name__, whole)
            for trial, seconds in SECONDS.items()
        ]
        for each in runs:
            each.result()
    return found


@pytest.mark.parametrize("trial", SECONDS, ids=lambda trial: trial.__name__.split(".")[-1])
def test_nothing_is_lost(tallies, trial):
    tally = tallies[trial]
    assert tally.lines() == []
    assert tally.lost == 0
    assert sum(counts.total() for counts in tally.counts.values()) > 0


def test_trainings_were_compared_with_the_whole_one(tallies):
    assert tallies[training].counts[training.ENDS][RIGHT] >= 1


def test_every_row_of_a_scoring_was_looked_at(tallies):
    assert tallies[scoring].counts[scoring.WHOLE_IMAGES] == {RIGHT: 380}
    assert tallies[scoring].counts[scoring.DAMAGED_IMAGES].total() == 20
    assert tallies[scoring].counts[scoring.DAMAGED_IMAGES][REFUSED] > 0


def test_answers_and_refusals_are_both_met(tallies):
    for tried in ("Predictor.predict, TensorFlow", "REST by hand", "image in a folder"):
        counts = tallies[inputs].counts[tried]
        assert counts[RIGHT] + counts[REFUSED] == counts.total() > 0
    requests = [counts for tried, counts in tallies[serving].counts.items() if "images: requests" in tried]
    assert len(requests) == 3
    assert sum(counts[RIGHT] for counts in requests) > 10


# === What it found ===


@pytest.fixture
def version(whole, tmp_path):
    return Path(shutil.copytree(whole.fit.saved_models / "1", tmp_path / "copy" / "1"))


@pytest.mark.parametrize(
    ("name", "engine"), [("saved_model.pb", "tensorflow"), ("adaptive.onnx", "onnxruntime")]
)
def test_a_flipped_bit_of_exported_weights_is_noticed(version, name, engine):
    # Where it would change an answer, and not keep the file from being read.
    content = bytearray((version / name).read_bytes())
    content[len(content) // 2] ^= 1
    (version / name).write_bytes(content)
    with pytest.raises(InputError, match=f"Cannot load the .*{name}.*SHA256SUMS"):
        Predictor(version, engine)
    if engine == "tensorflow":
        with pytest.raises(InputError, match="No version to serve.*SHA256SUMS"):
            VersionedModel(version.parent)


def test_a_version_without_sums_is_opened(version):
    (version / "SHA256SUMS").unlink()
    assert Predictor(version, "tensorflow").num_exits == 3


@pytest.fixture(scope="module")
def served(whole):
    return VersionedModel(whole.fit.saved_models).version()


@pytest.mark.parametrize("shape", [(), (1,), (2, 8), (2, 4, 16, 1), (2, 8, 8, 1, 1)])
def test_images_of_other_shapes_do_not_end_the_process(served, shape):
    with pytest.raises(CallFailed, match="takes shape"):
        served.run("", {"images": np.zeros(shape, np.float32)})
    for signature in ("serving_default", "all_exits"):  # As in a server that does not look at shapes.
        with pytest.raises(tf.errors.InvalidArgumentError):
            served.loaded.signatures[signature](images=tf.zeros(shape))


def test_half_a_file_of_a_killed_start_is_in_nobody_s_way(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".aside.config.yaml").write_text("data:")
    RunFolder.create(tmp_path / "run", overwrite=False)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_full_disk_is_one_line(capsys):
    def full(argv):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "report.json")

    assert options.command(full)([]) == 2
    assert capsys.readouterr().err == (
        "error: Cannot write 'report.json': No space left on device. Make room, then repeat the command "
        "(fit.py: with --resume)\n"
    )


@pytest.mark.parametrize(
    "how",
    [
        *({"thresholds": each} for each in ("x", {}, 1j, [[1], [1, 2]], [None, object()])),
        *({"budget": each} for each in ("x", {}, object())),
        *({"batch_size": each} for each in ("8", 2.5, None, [1])),
    ],
    ids=lambda how: re.sub(" at 0x[0-9a-f]+", "", str(how)),
)
def test_what_is_no_number_is_refused(known, how):
    with pytest.raises(InputError, match="must be"):
        known.predictor.predict(known.images, **how)


def test_a_section_without_fields_is_refused():
    with pytest.raises(InputError, match="Fill it, or leave it out"):
        options.load_config("data: null")


def test_a_file_without_a_name_in_an_archive_is_a_file():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("x", b"one")
    data = bytearray(file.getvalue())
    entry, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    data[entry + 28], data[end + 12] = 0, data[end + 12] - 1  # Lengths of the name, and of the list.
    del data[entry + 46]
    found = list(archive.members(io.BytesIO(bytes(data)), archive.Allowance()))
    assert [each.name for each in found] == [""]


# === Whether it would see what it looks for ===


@pytest.fixture(scope="module")
def known():
    images = np.random.default_rng(0).uniform(0, 1, (6, 8, 8, 1)).astype(np.float32)
    return Known.of(inputs.SHIPPED, images)


ROWS = np.arange(6)


def spoilt(answer: Prediction, field: str) -> Prediction:
    values = {name: value.copy() for name, value in vars(answer).items()}
    if field == "one answer less":
        return Prediction(**{name: value[1:] for name, value in values.items()})
    values[field] = values[field][::-1] if field == "probabilities" else values[field] % 3 + 1
    return Prediction(**values)


def test_a_right_answer_is_right(known):
    for how in ({}, {"thresholds": [0.5, 1.0]}, {"budget": 0.5}):
        answer = known.predictor.predict(known.images, **how)
        assert known.wrong(answer, ROWS, known.limits(6, **how)) is None


@pytest.mark.parametrize("field", ["probabilities", "label", "exit", "macs", "one answer less"])
def test_a_wrong_answer_is_wrong(known, field):
    answer = known.predictor.predict(known.images, thresholds=[2.0, 2.0])
    assert known.wrong(spoilt(answer, field), ROWS, known.limits(6, thresholds=[2.0, 2.0]))


def test_an_exit_against_the_thresholds_is_wrong(known):
    answer = known.predictor.predict(known.images, thresholds=[0.0, 0.0])
    limits = known.limits(6, thresholds=[3.0, 3.0])
    assert (exits_at(known.entropies, limits) == 1).all()
    assert "left at" in known.wrong(answer, ROWS, limits)


def refuse(words="no"):
    raise InputError(words)


@pytest.mark.parametrize(
    ("ask", "refusal", "outcome"),
    [
        (lambda: 1, None, RIGHT),
        (lambda: 1, True, LOST),
        (lambda: 2, None, LOST),
        (lambda: 1 / 0, None, LOST),
        (lambda: int("x"), True, LOST),
        (refuse, None, REFUSED),
        (refuse, True, REFUSED),
        (refuse, False, LOST),
        (lambda: refuse(" "), None, LOST),
    ],
)
def test_outcomes_are_told_apart(ask, refusal, outcome):
    tally = Tally()
    tally.judge("it", ask, lambda answer: None if answer == 1 else "not 1", lambda: "asked", refusal)
    assert tally.counts["it"] == {outcome: 1}
    assert len(tally.lines()) == tally.lost == (outcome == LOST)


def test_trainings_that_end_otherwise_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_weights", lambda fit: [np.zeros(2)])
    whole = type("Whole", (), {"fit": fitting.Fit(tmp_path)})
    for name in ("runs", "saved_models"):
        (tmp_path / name / fitting.NAME).mkdir(parents=True)
    (whole.fit.run / "history.csv").write_text("epoch,loss\n")
    found = training._differences(whole.fit, whole, [np.ones(2)])
    assert found == ["other weights", "versions []"]


def test_the_table_takes_its_place_in_the_page(monkeypatch, tmp_path, capsys):
    page = tmp_path / "reliability.md"
    monkeypatch.setattr(command, "PAGE", page)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    page.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n")
    tally = Tally()
    tally.note("it", RIGHT, times=1200)
    monkeypatch.setattr(command, "run_trials", lambda *_: {"inputs": tally})
    assert command.main(["--minutes", "2", "--trials", "inputs", "--write"]) == 0
    assert "| inputs | it | 1,200 | 1,200 | 0 | 0 | 0 |" in page.read_text()
    assert "--minutes 2.0 --seed 0 --trials inputs" in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith(f"{command.END}\nafter\n")
    assert "old" not in page.read_text()
    tally.note("it", LOST, "why")
    assert command.main(["--trials", "inputs"]) == 1
    with pytest.raises(SystemExit):
        command.main(["--trials", "nothing"])
    assert "trials of training" in capsys.readouterr().err


def test_the_page_has_a_place_for_the_table():
    assert command.replaced(command.PAGE.read_text(), table({})).count(command.BEGIN) == 1
