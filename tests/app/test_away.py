"""What leaves the attack page: the way of an attack, the PNG, the record; and what batches make."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from app import attack, batch, decision, images, keepsake, player, samples
from app.archive import Member
from rdi_keras.serving import Predictor

SHIPPED = "saved_models/digits/1"


@pytest.fixture(scope="module")
def predictor(pytestconfig):
    return Predictor(pytestconfig.rootpath / SHIPPED)


@pytest.fixture(scope="module")
def split():
    return samples.load_samples("digits", (8, 8, 1), 10)


@pytest.fixture(scope="module")
def fooled(predictor, split):
    """The first sample that a large attack fools, with its trace and label."""
    settings = attack.Settings("exit_aware", "PGD", 0.25, 10)
    for image, label in zip(split.images, split.labels, strict=True):
        ready = attack.ready(predictor, settings, LOOPS)
        trace = ready.trace(image, int(label), predictor.thresholds)
        if trace.reached and trace.best is not None:
            return settings, image, int(label), trace
    pytest.fail("nothing was fooled")


LOOPS: dict = {}


def decided(predictor, image):
    return decision.decide(predictor.metadata, decision.ask(predictor, image), predictor.thresholds)


def test_the_way_tells_when_the_answer_turns_and_the_exit_moves(predictor, fooled):
    _, image, label, trace = fooled
    clean = decided(predictor, image)
    way = player.way_of(predictor.metadata, trace, clean, label, predictor.thresholds)
    assert len(way.decisions) == len(trace.iterates) == len(way.loss) == len(way.entropy)
    for point, logits in zip(trace.iterates, way.decisions, strict=True):
        assert decided(predictor, point).exit == logits.exit
    assert way.decisions[trace.best].label != label
    turns = sum(a.label != b.label for a, b in zip([clean, *way.decisions], way.decisions, strict=False))
    moves = sum(a.exit != b.exit for a, b in zip([clean, *way.decisions], way.decisions, strict=False))
    assert sum("the answer turns" in each for each in way.events) == turns > 0
    assert sum("it leaves at exit" in each for each in way.events) == moves
    probabilities = np.exp(-way.loss)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (way.entropy >= -1e-9).all()
    for kind in (player.LOSS, player.ENTROPY):
        drawn = player.figure(way, kind, shown=3)
        assert [each.name for each in drawn.data] == ["exit 1", "exit 2", "exit 3"]


def test_the_png_does_what_the_image_did(predictor, fooled):
    settings, image, _, trace = fooled
    kept = keepsake.keepsake(predictor, image, trace.image, settings.epsilon, predictor.thresholds)
    assert kept.same
    upload = images.read_upload(kept.data, (8, 8, 1))  # As a visitor would bring it back.
    assert np.abs(upload.model_input - image).max() <= settings.epsilon + 1e-6
    again = decided(predictor, upload.model_input)
    assert (again.label, again.exit) == (kept.decision.label, kept.decision.exit)
    assert again.label == decided(predictor, trace.image).label


@pytest.mark.parametrize("epsilon", [0.0, 0.001, 0.1, 1.0])
def test_rounding_to_a_png_never_leaves_the_ball_where_it_holds_a_level(epsilon):
    random = np.random.default_rng(0)
    before = random.uniform(size=(6, 6, 1)).astype(np.float32)
    noise = random.uniform(-epsilon, epsilon, before.shape)
    after = np.clip(before + noise, 0, 1).astype(np.float32)
    lowest, highest = np.ceil(255 * (before - epsilon)), np.floor(255 * (before + epsilon))
    holds_a_level = lowest <= highest
    assert holds_a_level.any() == (epsilon > 0)
    for rounded in keepsake._rounded(before, after, epsilon):
        distance = np.abs(rounded / 255 - before)
        assert (distance[holds_a_level] <= epsilon + 1e-6).all()
        assert (distance[~holds_a_level] <= 0.5 / 255 + 1e-6).all()


def test_the_record_is_json_and_tells_the_run(predictor, fooled):
    settings, image, label, trace = fooled
    before, after = decided(predictor, image), decided(predictor, trace.image)
    record = json.loads(json.dumps(attack.record(settings, trace, {"label": label}, before, after)))
    assert record["attack"]["objective"] == "exit_aware"
    assert record["attack"]["epsilon"] == 0.25
    assert record["reached"]
    assert record["before"]["label"] == label != record["after"]["label"]
    assert len(record["after"]["exits"]) == 3


@pytest.fixture(scope="module")
def rows(predictor, split):
    files = [Member(f"{number}.png", images.png(split.images[number])) for number in range(70)]
    files.insert(3, Member("=bad.png", b"no image"))
    files.insert(9, Member("out.png", None, "its path leads out"))
    return list(batch.score(predictor, files, predictor.thresholds))


def test_every_file_has_a_row_in_its_order(rows, predictor, split):
    assert len(rows) == 72
    assert "not an image" in rows[3].error
    assert rows[9].error == "its path leads out"
    good = [row for row in rows if row.error is None]
    rounded = np.round(split.images[:70] * 255).astype(np.float32) / 255
    seen = np.stack([1 - each if row.inverted else each for each, row in zip(rounded, good, strict=True)])
    expected = predictor.predict(seen)
    assert [row.answer for row in good] == [str(label) for label in expected.label]
    assert [row.exit for row in good] == expected.exit.tolist()
    assert [row.macs for row in good] == expected.macs.astype(int).tolist()
    assert batch.exit_counts(rows, 3) == np.bincount(expected.exit, minlength=4)[1:].tolist()
    assert sum(batch.histogram(batch.exit_counts(rows, 3)).data[0].y) == 70


def test_tables_can_be_read_back(rows):
    back = pd.read_parquet(io.BytesIO(batch.parquet(rows)))
    assert back["name"].tolist() == [row.name for row in rows]
    assert back["exit"].isna().sum() == 2
    text = pd.read_csv(io.BytesIO(batch.csv(rows)))
    assert len(text) == 72
    assert text["name"][3] == "'=bad.png"  # No formula for a spreadsheet.


def test_no_files_make_no_rows(predictor):
    assert list(batch.score(predictor, [], predictor.thresholds)) == []
    assert batch.table([]).columns[0] == "name"


def test_dark_on_light_files_are_inverted(predictor, split):
    inverted = Image.fromarray(255 - np.round(split.images[0][..., 0] * 255).astype(np.uint8))
    file = io.BytesIO()
    inverted.save(file, "PNG")
    (row,) = batch.score(predictor, [Member("a.png", file.getvalue())], predictor.thresholds)
    assert row.inverted
    assert row.answer == decided(predictor, split.images[0]).answer
