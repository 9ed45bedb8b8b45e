"""Every page without a browser."""

import dataclasses
import json
import shutil
import time
import zipfile

import numpy as np
import pytest

from app import backends, images
from rdi_keras.metadata import Metadata
from tests.app.visiting import metrics, press, texts, upload

PAGES = ("watch", "attack", "wins", "compare", "batch", "where", "about")


@pytest.mark.parametrize("name", PAGES)
def test_without_a_model_every_page_says_how_to_make_one(start, tmp_path, name):
    page = start(tmp_path / "runs", tmp_path / "saved_models", name)
    assert not page.exception
    assert "make demo" in page.info[0].value
    assert "python training/fit.py" in page.info[0].value
    assert not page.selectbox


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_on_the_model_that_ships(shipped, name):
    page = shipped(name)
    assert not page.error
    assert page.sidebar.selectbox[0].value == "digits/1"


@pytest.mark.parametrize("name", PAGES)
def test_every_page_takes_a_model_without_a_report(start, model_folders, tmp_path, name):
    page = start(tmp_path, model_folders[1], name)
    assert not page.exception
    if name == "wins":
        assert "training/evaluate.py" in page.error[0].value
    else:
        assert not page.error


def test_the_first_screen_decides_on_a_sample(shipped):
    page = shipped()
    assert set(metrics(page)) == {"Answer", "Exit", "Compute, in MACs"}
    said = texts(page)
    assert said.count("answers here") == 1
    assert 'class="sample"' in said  # It travels to its exit.
    assert "really **" in said


def test_the_address_holds_the_state_of_the_page(shipped):
    page = shipped(sample="7", scale="-10")
    assert page.number_input(key="sample").value == 7
    assert metrics(page)["Exit"] == "3 of 3"
    assert "Nobody leaves early" in [each.value for each in page.sidebar.caption]


@pytest.mark.parametrize(
    "query", [{"sample": "9999"}, {"scale": "x"}, {"model": "../../etc"}, {"image_source": "?"}]
)
def test_an_address_that_says_nonsense_opens_all_the_same(shipped, query):
    page = shipped(**query)
    assert not page.error
    assert metrics(page)


def test_the_slider_decides_anew_without_asking_the_model_again(shipped, monkeypatch):
    page = shipped()
    monkeypatch.setattr("app.decision.ask", lambda *_: pytest.fail("asked"))
    exits = []
    for place in (-10, 0, 10):
        page.sidebar.slider[0].set_value(place).run()
        assert not page.exception
        exits.append(metrics(page)["Exit"][0])
    assert exits == sorted(exits, reverse=True)
    assert (exits[0], exits[-1]) == ("3", "1")


def test_each_exit_can_have_a_threshold_of_its_own(shipped):
    page = shipped()
    page.toggle(key="own").set_value(True).run()
    first = next(each for each in page.slider if each.label.startswith("Exit 1"))
    first.set_value(-8.0).run()
    assert metrics(page)["Exit"] != "1 of 3"
    first = next(each for each in page.slider if each.label.startswith("Exit 1"))
    first.set_value(first.max).run()
    assert not page.exception
    assert metrics(page)["Exit"] == "1 of 3"


def test_samples_are_picked_from_the_gallery(shipped):
    page = press(shipped(), "4")
    assert page.number_input(key="sample").value == 4
    page = press(page, "Later ones")
    assert page.number_input(key="sample").value == 9
    page = press(page, "Another one")
    assert 0 <= page.number_input(key="sample").value < 359


def test_uploads_are_shown_as_the_model_sees_them(shipped, digit_png):
    page = shipped()
    page.segmented_control(key="image_source").set_value("My images").run()
    assert not page.metric
    page = upload(page, ("digit.png", digit_png))
    captions = [caption for image in page.get("image") for caption in image.captions]
    assert "Your image" in captions
    assert "What the model sees: 8×8×1" in captions
    said = texts(page)
    assert "dark on light" in said
    assert "60×40 pixels are not of the model's shape" in said
    assert "photo of anything else" in said
    assert page.toggle[0].value
    page.toggle[0].set_value(False).run()
    assert not page.exception
    page = upload(page, ("digit.png", digit_png), ("other.png", images.png(np.zeros((8, 8), np.uint8))))
    assert set(page.selectbox(key="upload_name").options) == {"digit.png", "other.png"}


def test_a_bad_upload_gets_words_and_the_next_one_works(shipped, digit_png):
    page = shipped()
    for number, bad in enumerate((b"no image", digit_png[:60])):
        page = upload(page, (f"bad{number}.png", bad))
        assert len(page.error) == 1
        assert not page.metric
    page = upload(page, ("good.png", digit_png))
    assert not page.error
    assert page.metric


def test_many_uploads_keep_the_choice(shipped):
    random = np.random.default_rng(0)
    files = [(f"{n}.png", images.png(random.integers(0, 256, (8, 8), np.uint8))) for n in range(10)]
    page = upload(shipped(), *files)
    options = page.selectbox(key="upload_name").options
    assert options == [f"{number}.png" for number in range(9, 1, -1)]  # The last eight.
    page.selectbox(key="upload_name").set_value("5.png").run()
    page.sidebar.slider[0].set_value(3).run()
    page.sidebar.slider[0].set_value(4).run()
    assert page.selectbox(key="upload_name").value == "5.png"


def test_an_operating_point_moves_every_page(shipped):
    page = shipped("wins")
    texts_of = page.selectbox(key="point").options
    page.selectbox(key="point").set_value(next(each for each in texts_of if "nobody" in each)).run()
    page = press(page, "Use it on the other pages")
    assert page.sidebar.slider[0].value == -10


def test_a_server_that_is_down_is_said_and_the_page_lives(shipped, monkeypatch):
    monkeypatch.setenv(backends.ADDRESSES_VARIABLE, "localhost:1")
    for name in ("watch", "where"):
        page = shipped(name, server="localhost:1")
        assert "No answer from localhost:1" in texts(page)
    page = shipped("watch", server="example.com:80")
    assert "on its own machine" in page.error[0].value
    page.sidebar.text_input[0].set_value("").run()
    assert not page.error
    assert metrics(page)


def test_a_server_decides_where_it_is_asked(start, model_folders, tmp_path, monkeypatch):
    from rdi_keras.serving.loopback import LoopbackServer

    with LoopbackServer(model_folders[1] / "bare") as server:
        monkeypatch.setenv(backends.ADDRESSES_VARIABLE, server.address)
        page = start(tmp_path, model_folders[1], "watch", server=server.address)
        assert not page.error
        assert metrics(page)["Exit"] == "2 of 3"
        page = start(tmp_path, model_folders[1], "where", server=server.address)
        assert "version 1 is AVAILABLE" in page.success[0].value


def test_a_model_that_vanishes_while_open_is_said(start, model_folders, tmp_path):
    runs, saved = tmp_path / "runs", model_folders[1]
    shutil.copytree(model_folders[0] / "tiny", runs / "tiny")
    page = start(runs, saved)
    page.sidebar.selectbox[0].set_value("tiny (run)").run()
    assert not page.exception
    shutil.rmtree(runs / "tiny")
    page.run()
    assert not page.exception
    assert "The model tiny (run) is gone" in page.sidebar.warning[0].value.replace("\\", "")
    assert metrics(page)


def garbage(file):
    file.write_bytes(b"no model")


def other_archive(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("other", "")


def other_shape(file):
    text = file.read_text()
    file.write_text(json.dumps(json.loads(text) | {"input_shape": [28, 28, 1]}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("metadata.json", garbage),
        ("metadata.json", other_shape),
        ("model.keras", garbage),
        ("model.keras", other_archive),
    ],
)
def test_a_damaged_model_gets_words(start, model_folders, tmp_path, name, damage):
    shutil.copytree(model_folders[0] / "tiny", tmp_path / "damaged")
    damage(tmp_path / "damaged" / name)
    page = start(tmp_path, tmp_path / "absent")
    assert not page.exception
    assert any(said in page.error[0].value for said in ("Cannot", "another model"))
    assert page.sidebar.selectbox[0].options == ["damaged (run)"]


def test_without_samples_at_hand_an_upload_is_offered(start, model_folders, tmp_path, monkeypatch):
    shutil.copytree(model_folders[1] / "bare", tmp_path / "other")
    folder = tmp_path / "other" / "1"
    dataclasses.replace(Metadata.read(folder), dataset="elsewhere").write(folder)
    monkeypatch.setattr("app.samples.sample_source", lambda metadata: None)
    page = start(tmp_path / "absent", tmp_path)
    assert not page.exception
    assert "not at hand" in page.info[0].value
    assert page.file_uploader


def test_a_click_without_an_attack_is_quick(shipped):
    page = shipped()
    times = []
    for place in range(1, 8):
        before = time.process_time()
        page.sidebar.slider[0].set_value(place).run()
        times.append(time.process_time() - before)
    # Of the processor, as other work may share the cores; benchmarks/app_speed.py measures on a clock.
    assert np.median(times) < 0.2
