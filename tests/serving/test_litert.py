"""LiteRT files: the model's numbers, samples that really leave, and folders that are whole or not there."""

import dataclasses
import shutil
import subprocess
import sys
from functools import partial

import keras
import numpy as np
import pytest

from rdi_keras import data
from rdi_keras.defenses import RobustModel
from rdi_keras.errors import InputError
from rdi_keras.inference import adaptive, entropy, thresholds_for_shares
from rdi_keras.metadata import Metadata, describe
from rdi_keras.models import Backbone, Stage
from rdi_keras.models.blocks import basic_block
from rdi_keras.models.heads import light_head
from rdi_keras.serving import LiteRTRunner, export_litert, litert
from rdi_keras.serving.litert_stages import LiteRTStages

pytest.importorskip("ai_edge_litert")

NOTHING_ELSE = """
import sys
import numpy as np
from litert_stages import LiteRTStages

stages = LiteRTStages(sys.argv[1])
answers = stages(np.load(sys.argv[2]))
try:
    stages(np.full((1, 8, 8, 1), np.nan, np.float32))
except ValueError as error:
    assert "hold no NaN" in str(error)
else:
    raise AssertionError("took NaN")
assert not {"tensorflow", "keras", "rdi_keras"} & set(sys.modules)
np.savez(sys.argv[3], **answers)
"""


def filled(*values):
    """An image of every value."""
    return np.stack([np.full((8, 8, 1), value, np.float32) for value in values])


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def trained(digits):
    """Residual blocks with BatchNorm and three exits, trained for seconds; a third leaves at each."""
    keras.utils.set_random_seed(0)
    bodies = [
        partial(basic_block, filters=filters, stride=stride, name=f"block_{number}")
        for number, (filters, stride) in enumerate(((16, 1), (16, 1), (32, 2), (64, 2)))
    ]
    heads = [None, *(light_head(10) for _ in range(3))]  # The second block's short cut is the identity.
    model = RobustModel.from_backbone(Backbone("residual", (8, 8, 1), tuple(map(Stage, bodies, heads))))
    plain = keras.Model(model.inputs, list(model.outputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain.compile(keras.optimizers.Adam(3e-3), loss=[loss] * 3)
    labels = [digits.train.labels] * 3
    plain.fit(digits.train.images, labels, batch_size=64, epochs=4, verbose=0)
    entropies = np.stack([entropy(each) for each in model.logits(digits.calibration.images)], axis=1)
    model.thresholds.assign(thresholds_for_shares(entropies, [1 / 3] * 3))
    return model


@pytest.fixture(scope="module")
def about(trained):
    return describe(trained, [str(digit) for digit in range(10)], "digits", "0.1", "digits")


@pytest.fixture(scope="module")
def folders(trained, about, digits, tmp_path_factory):
    """One folder of LiteRT files a kind."""
    root = tmp_path_factory.mktemp("edge")
    images = digits.calibration.images
    return {kind: export_litert(trained, about, root / kind, kind, images) for kind in litert.KINDS}


@pytest.fixture(scope="module")
def test_images(digits):
    return digits.test.images[:200]


@pytest.fixture(scope="module")
def expected(trained, test_images):
    thresholds = np.tile(trained.thresholds.numpy(), (len(test_images), 1))
    return {name: each.numpy() for name, each in adaptive(trained, test_images, thresholds).items()}


def test_float32_gives_the_models_numbers(folders, test_images, expected):
    prediction = LiteRTRunner(folders["float32"]).predict(test_images, batch_size=70)
    assert len(set(expected["exit"])) == 3, "the fixture should spread samples over exits"
    for field in dataclasses.fields(prediction):
        value = getattr(prediction, field.name)
        assert value.dtype == expected[field.name].dtype
        np.testing.assert_allclose(value, expected[field.name], atol=1e-4)


def test_float16_is_close(folders, test_images, trained):
    """Compared exit by exit: where a sample leaves may turn on the last digits of an entropy."""
    runner = LiteRTRunner(folders["float16"])
    for leave_at in (1, 2, 3):
        thresholds = [9.0 if number >= leave_at else -1.0 for number in (1, 2)]
        probabilities = runner.predict(test_images, thresholds).probabilities
        wanted = adaptive(trained, test_images, np.tile(np.float32(thresholds), (len(test_images), 1)))
        np.testing.assert_allclose(probabilities, wanted["probabilities"], atol=1e-2)


def test_int8_answers_as_the_model_does(folders, test_images, expected):
    prediction = LiteRTRunner(folders["int8"]).predict(test_images)
    assert np.mean(prediction.label == expected["label"]) >= 0.95
    assert np.mean(prediction.exit == expected["exit"]) >= 0.8


def test_smaller_kinds_are_smaller(folders):
    sizes = {kind: LiteRTRunner(folder).size for kind, folder in folders.items()}
    assert sizes["int8"] < 0.7 * sizes["float16"] < 0.7 * 0.7 * sizes["float32"]
    assert {kind: LiteRTRunner(folder).kind for kind, folder in folders.items()} == {
        kind: kind for kind in litert.KINDS
    }


def test_int8_computes_in_integers(folders):
    from ai_edge_litert.interpreter import Interpreter

    for number in (1, 2, 3):
        interpreter = Interpreter(str(folders["int8"] / litert.stage_file(number)))
        details = {each["index"]: each for each in interpreter.get_tensor_details()}
        kinds = {name: set() for name in ("CONV_2D", "FULLY_CONNECTED", "ADD")}
        for operation in interpreter._get_ops_details():
            if operation["op_name"] in kinds:
                kinds[operation["op_name"]] |= {details[index]["dtype"] for index in operation["outputs"]}
        assert kinds == {name: {np.int8} for name in kinds}


def test_int8_ranges_come_from_all_images_evenly(trained):
    images = filled(*np.linspace(0, 1, 1234))
    taken = litert._calibration_images(images, trained)[:, 0, 0, 0]
    assert len(taken) == litert.MAX_CALIBRATION
    np.testing.assert_allclose(taken, np.linspace(0, 1, len(taken)), atol=3e-3)
    np.testing.assert_array_equal(litert._calibration_images(images[:321], trained), images[:321])


def test_samples_leave_and_stages_nobody_needs_do_not_run(folders, test_images, expected):
    runner = LiteRTRunner(folders["float32"])
    rows = _count_rows(runner)
    runner.predict(test_images)
    exits = expected["exit"]
    assert rows == [(1, 200), (2, np.sum(exits > 1)), (3, np.sum(exits > 2))]
    rows.clear()
    assert set(runner.predict(test_images[:5], thresholds=[9, 9]).exit) == {1}
    assert rows == [(1, 5)]


def _count_rows(runner):
    rows = []

    def counted(number, stage):
        def run(features):
            rows.append((number, len(features)))
            return stage(features=features)

        return run

    stages = runner.stages.stages
    stages[:] = [counted(number, stage) for number, stage in enumerate(stages, start=1)]
    return rows


def test_what_is_no_number_never_leaves_early(folders, test_images):
    runner = LiteRTRunner(folders["float32"])
    first = runner.stages.stages[0]

    def spoilt(features):
        outputs = first(features=features)
        outputs["logits"][0] = np.nan
        return outputs

    runner.stages.stages[0] = spoilt
    np.testing.assert_array_equal(runner.predict(test_images[:3], thresholds=[9, -1]).exit, [3, 1, 1])


def test_no_images_no_answers(folders):
    runner = LiteRTRunner(folders["float32"])
    rows = _count_rows(runner)
    prediction = runner.predict(np.zeros((0, 8, 8, 1), np.float32))
    assert prediction.probabilities.shape == (0, 10)
    assert prediction.exit.shape == prediction.label.shape == prediction.macs.shape == (0,)
    assert rows == []


def test_a_device_needs_numpy_and_the_runtime_alone(folders, test_images, tmp_path):
    np.save(tmp_path / "images.npy", test_images)
    folder = shutil.copytree(folders["float32"], tmp_path / "device")
    arguments = [folder, tmp_path / "images.npy", tmp_path / "answers.npz"]
    subprocess.run([sys.executable, "-c", NOTHING_ELSE, *arguments], check=True, cwd=folder)
    answers = np.load(tmp_path / "answers.npz")
    prediction = LiteRTRunner(folders["float32"]).predict(test_images)
    for field in dataclasses.fields(prediction):
        np.testing.assert_array_equal(answers[field.name], getattr(prediction, field.name))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.zeros((8, 8, 1), np.float32), r"shape \(B, 8, 8, 1\). Received: \(8, 8, 1\)"),
        (np.zeros((1, 28, 28, 1), np.float32), r"Received: \(1, 28, 28, 1\)"),
        (np.full((2, 8, 8, 1), np.nan, np.float32), "NaN"),
    ],
)
def test_bad_images_are_refused(folders, bad, said):
    for kind in ("float32", "int8"):
        with pytest.raises(InputError, match=said):
            LiteRTRunner(folders[kind]).predict(bad)


@pytest.mark.parametrize("kind", ["float32", "int8"])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.zeros((8, 8, 1), np.float32), r"shape \(B, 8, 8, 1\). Received: \(8, 8, 1\)"),
        (np.zeros((1, 28, 28, 1), np.float32), r"Received: \(1, 28, 28, 1\)"),
        (np.zeros((1, 8, 8, 1), np.uint8), "numpy array of float32. Received: uint8. .* uint8 pixels by 255"),
        (np.zeros((1, 8, 8, 1)), "Received: float64"),
        (filled(0, np.nan, np.inf), "image 1; 2 of"),
        (filled(0, 1, 1.5), "to 1.5 in image 2; 1"),
        (filled(-0.1), "from -0.1 .* in image 0"),
    ],
)
def test_the_stages_alone_refuse_bad_images(folders, kind, bad, said):
    with pytest.raises(ValueError, match=said):
        LiteRTStages(folders[kind])(bad)


@pytest.mark.parametrize("bad", [[1.0], [1.0, np.nan], [[1.0, 1.0]]])
def test_the_stages_alone_refuse_bad_thresholds(folders, test_images, bad):
    with pytest.raises(ValueError, match="Thresholds must be 2 numbers in nats. Received: "):
        LiteRTStages(folders["float32"])(test_images, bad)


def test_a_batch_of_no_images_is_refused(folders, test_images):
    with pytest.raises(InputError, match="batch_size must be at least 1. Received: 0"):
        LiteRTRunner(folders["float32"]).predict(test_images, batch_size=0)


def test_thresholds_are_checked_and_can_be_replaced(folders, test_images):
    with pytest.raises(InputError, match="takes 2 thresholds"):
        LiteRTRunner(folders["float32"], thresholds=[1.0])
    with pytest.raises(InputError, match="takes 2 thresholds"):
        LiteRTRunner(folders["float32"]).predict(test_images, thresholds=[1, 2, 3])
    runner = LiteRTRunner(folders["float32"], thresholds=[-1, 9])
    assert set(runner.predict(test_images).exit) == {2}


def test_metadata_lie_beside_the_files(folders, about):
    assert Metadata.read(folders["int8"]) == about


def test_a_damaged_folder_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match="Cannot read"):
        LiteRTRunner(tmp_path)
    copy = shutil.copytree(folders["float32"], tmp_path / "copy")
    (copy / "exit_2.tflite").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="Cannot open the LiteRT files.*Export them again"):
        LiteRTRunner(copy)
    (copy / "exit_2.tflite").unlink()
    with pytest.raises(InputError, match="exit_2.tflite"):
        LiteRTRunner(copy)


def test_without_the_package_one_line_says_how_to_get_it(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match=r"rdi_keras\[litert\]"):
        LiteRTRunner(folders["float32"])


def test_requests_that_cannot_be_met_are_refused(trained, about, digits, tmp_path):
    with pytest.raises(InputError, match="'int4'. Allowed: float32, float16, int8"):
        export_litert(trained, about, tmp_path / "out", "int4")
    for nothing in (None, digits.test.images[:0]):
        with pytest.raises(InputError, match="int8 files need calibration images.*Received: none"):
            export_litert(trained, about, tmp_path / "out", "int8", nothing)
    with pytest.raises(InputError, match="Received: \\(3, 4, 4, 1\\)"):
        export_litert(trained, about, tmp_path / "out", "int8", np.zeros((3, 4, 4, 1), np.float32))
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="is in use. Name a new folder"):
        export_litert(trained, about, tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]


def test_failure_leaves_nothing_behind(trained, about, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(litert, "_set_kind", fail)
    with pytest.raises(OSError, match="disk full"):
        export_litert(trained, about, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
