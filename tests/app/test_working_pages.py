"""The pages on which images are attacked or decided in numbers, without a browser."""

import io
import shutil
import zipfile

import numpy as np
import pytest

from tests.app.visiting import attacked, press, texts, upload


def test_an_attack_shows_before_after_and_its_way(shipped):
    page = attacked(shipped("attack"), steps_100=5)
    assert not page.error
    assert list(page.table[0].value.columns) == ["", "Before", "After"]
    said = texts(page)
    assert "exit_aware by PGD, ε = 25.5/255, 5 steps, restarts: 1" in said
    assert "Checked: the PNG, read again" in said
    step = next(each for each in page.slider if each.label == "Step")
    assert (step.min, step.max) == (0, 5)
    step.set_value(0).run()
    assert "the start" in texts(page)
    assert {each.label for each in page.get("download_button")} == {"Attacked image (PNG)", "Record (JSON)"}


def test_an_attack_does_not_stay_when_image_or_thresholds_change(shipped):
    page = attacked(shipped("attack"), steps_100=2)
    assert page.table
    page.number_input(key="sample").set_value(3).run()
    assert not page.table
    page = attacked(page)
    page.sidebar.slider[0].set_value(-3).run()
    assert not page.table


@pytest.mark.parametrize("goal", ["a chosen wrong answer", "a late exit"])
@pytest.mark.parametrize("solver", ["APGD", "FGSM", "Square"])
def test_other_goals_and_solvers_run_too(shipped, goal, solver):
    page = shipped("attack")
    page.segmented_control(key="goal").set_value(goal).run()
    page = attacked(page, solver=solver)
    assert not page.error
    assert page.table


def test_a_full_line_of_attackers_is_refused_in_words(shipped, monkeypatch):
    monkeypatch.setattr("app.attacking.gate", lambda: Gate(places=0, line=0))
    from app.gate import Gate

    page = attacked(shipped("attack"))
    assert "Try again in a minute" in page.error[0].value


def test_an_uploaded_image_is_attacked_as_what_its_owner_says_it_is(shipped, digit_png):
    page = upload(shipped("attack"), ("digit.png", digit_png))
    really = next(each for each in page.selectbox if each.label.startswith("What is it really"))
    other = next(each for each in really.options if each != really.value)
    really.set_value(other).run()
    page = attacked(page, steps_100=2)
    # The model's own answer is another one, so the attack has nothing to do.
    assert "wrong before the attack" in texts(page)
    assert f"instead of {other}" in texts(page)
    assert "nothing was run" in texts(page)


def test_a_click_ends_an_attack_and_gives_the_place_back(digits_folder, tmp_path):
    from app import attack, attacking
    from app.models import find_models
    from app.parts import Chosen, open_predictor

    class Bar:
        def __init__(self, patience):
            self.patience, self.looks = patience, 0

        def progress(self, share, text):
            self.looks += 1
            if self.looks == self.patience:
                raise KeyboardInterrupt  # As Streamlit does where somebody clicked.

    (model,) = find_models(tmp_path / "absent", digits_folder)
    predictor = open_predictor(str(model.path), model.digest)
    # With such thresholds everybody leaves at exit 1, and no attack changes that.
    chosen = Chosen(model, predictor, predictor, [9.0, 9.0])
    settings = attack.Settings("slowdown", "PGD", 0.1, 10_000_000)
    with pytest.raises(KeyboardInterrupt):
        attacking._run(chosen, settings, np.zeros((8, 8, 1), np.float32), 3, Bar(3))
    quick = attack.Settings("slowdown", "PGD", 0.1, 2)
    assert attacking._run(chosen, quick, np.zeros((8, 8, 1), np.float32), 3, Bar(10**9)).runs == 2


def test_two_models_are_compared_under_one_attack(start, model_folders, tmp_path, pytestconfig):
    shutil.copytree(model_folders[1] / "bare", tmp_path / "bare")
    shutil.copytree(pytestconfig.rootpath / "saved_models" / "digits", tmp_path / "digits")
    page = start(tmp_path / "absent", tmp_path, "compare")
    assert not page.exception
    assert page.selectbox(key="other").options == ["bare/1"]
    page.slider(key="steps_100").set_value(2).run()
    page = press(page, "Attack both")
    assert not page.error
    assert texts(page).count('class="stages"') == 4
    page.slider(key="steps_100").set_value(3).run()
    assert texts(page).count('class="stages"') == 2  # Nothing of another attack stays.


def archive_of(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, data in files.items():
            made.writestr(name, data)
    return file.getvalue()


def test_a_batch_is_scored_and_what_is_bad_is_named(shipped, digit_png):
    page = shipped("batch")
    data = archive_of({"a.png": digit_png, "../b.png": digit_png, "c.png": b"no image"})
    files = [("many.zip", data, "application/zip"), ("d.png", digit_png, "image/png")]
    page.file_uploader(key="batch_files_False").set_value(files).run()
    page = press(page, "Decide all")
    assert not page.error
    assert "2 of 4 images were read" in texts(page)
    assert "leads out" in texts(page)
    assert len(page.dataframe[0].value) == 4
    assert {each.label for each in page.get("download_button")} == {"CSV", "Parquet"}
    page.file_uploader(key="batch_files_False").set_value([("bad.zip", b"x", "application/zip")]).run()
    page = press(page, "Decide all")
    assert "no ZIP archive" in page.error[0].value
