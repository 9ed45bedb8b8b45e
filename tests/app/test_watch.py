"""The page "Watch it decide" without a browser."""

import json
import shutil
import zipfile

import pytest
from streamlit.testing.v1 import AppTest

from app import models

MAIN = "app/main.py"


@pytest.fixture
def start(monkeypatch, pytestconfig):
    """Opens the page on folders of models."""

    def start(runs, saved_models) -> AppTest:
        monkeypatch.chdir(pytestconfig.rootpath)
        monkeypatch.setenv(models.RUNS_VARIABLE, str(runs))
        monkeypatch.setenv(models.SAVED_MODELS_VARIABLE, str(saved_models))
        return AppTest.from_file(str(pytestconfig.rootpath / MAIN), default_timeout=60).run()

    return start


@pytest.fixture
def page(start, model_folders):
    page = start(*model_folders)
    assert not page.exception
    return page


def texts(page: AppTest) -> str:
    """All that the page says in words."""
    kinds = (page.markdown, page.caption, page.info, page.error, page.warning, page.success, page.subheader)
    boxes = [each.proto.body for each in page.get("html")]
    return "\n".join([*(element.value for kind in kinds for element in kind), *boxes])


def metrics(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def test_without_a_model_the_page_says_how_to_make_one(start, tmp_path):
    page = start(tmp_path / "runs", tmp_path / "saved_models")
    assert not page.exception
    assert page.title[0].value == "Watch it decide"
    assert "make demo" in page.info[0].value
    assert "python training/fit.py" in page.info[0].value
    assert not page.selectbox


def test_a_fresh_clone_has_saved_models_only(start, model_folders, tmp_path):
    page = start(tmp_path, model_folders[1])
    assert not page.exception
    assert not page.error
    assert page.selectbox(key="model").options == [
        "bare version 1 (SavedModel): digits, 8×8×1 pixels, 3 exits"
    ]
    assert metrics(page)["Exit"] == "2 of 3"


@pytest.mark.parametrize("number", [0, 1])
def test_a_sample_of_every_model_is_decided(page, number):
    options = page.selectbox(key="model").options
    assert len(options) == 2
    page.selectbox(key="model").select_index(number).run()
    page.number_input[0].set_value(7).run()
    assert not page.exception
    assert not page.error
    assert metrics(page)["Exit"] == "2 of 3"
    said = texts(page)
    assert said.count("answers here") == said.count("not reached") == 1
    assert any("Test image 7" in caption for image in page.get("image") for caption in image.captions)


def test_another_sample_is_drawn_by_a_button(page):
    button = next(each for each in page.button if each.label == "Another one")
    for _ in range(3):  # The same number may come again once.
        button.click().run()
        if page.number_input[0].value != 0:
            break
    assert page.number_input[0].value != 0
    assert not page.exception


def attack(page: AppTest) -> AppTest:
    button = next(each for each in page.button if each.label == "Attack")
    return button.click().run()


def test_an_attack_shows_before_and_after(page):
    assert not page.table
    page.slider(key="steps").set_value(2).run()
    attack(page)
    assert not page.exception
    assert not page.error
    assert list(page.table[0].value.columns) == ["", "Before", "After"]
    assert texts(page).count('class="stages"') == 2
    assert "exit_aware, ε = 0.1, 2 steps" in texts(page).replace("\\", "")


def test_an_attack_does_not_stay_when_the_image_changes(page):
    page.slider(key="steps").set_value(1).run()
    attack(page)
    assert page.table
    page.number_input[0].set_value(3).run()
    assert not page.table


@pytest.mark.parametrize("index", [2, 7])
def test_other_objectives_run_too(page, index):
    page.selectbox[1].select_index(index)
    page.slider(key="steps").set_value(1).run()
    attack(page)
    assert not page.exception
    assert page.table


def test_an_upload_is_shown_as_the_model_sees_it_and_attacked(page, digit_png):
    page.radio(key="image_source").set_value("My own image").run()
    assert not page.metric
    page.file_uploader(key="upload").set_value(("digit.png", digit_png, "image/png")).run()
    assert not page.exception
    assert not page.error
    captions = [caption for image in page.get("image") for caption in image.captions]
    assert "Your image" in captions
    assert "What the model sees: 8×8×1" in captions
    assert page.toggle[0].value
    assert "dark on light" in texts(page)
    assert "own clean answer" in texts(page)
    page.slider(key="steps").set_value(1).run()
    attack(page)
    assert page.table
    page.toggle[0].set_value(False).run()
    assert not page.exception
    assert not page.table


def test_a_bad_upload_gets_words_and_the_next_one_works(page, digit_png):
    page.radio(key="image_source").set_value("My own image").run()
    for bad in (b"no image", digit_png[:60]):
        page.file_uploader(key="upload").set_value(("bad.png", bad, "image/png")).run()
        assert not page.exception
        assert len(page.error) == 1
        assert not page.metric
    page.file_uploader(key="upload").set_value(("good.png", digit_png, "image/png")).run()
    assert not page.error
    assert page.metric


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
    assert page.selectbox(key="model")


def test_without_samples_at_hand_an_upload_is_offered(start, model_folders, tmp_path, monkeypatch):
    shutil.copytree(model_folders[0] / "tiny", tmp_path / "other")
    monkeypatch.setattr("app.samples.sample_source", lambda metadata: None)
    page = start(tmp_path, tmp_path / "absent")
    assert not page.exception
    assert "not at hand" in page.info[0].value
    assert page.file_uploader
