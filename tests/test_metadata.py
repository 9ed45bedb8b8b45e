import dataclasses
import json

import pytest

from rdi_keras.errors import InputError
from rdi_keras.metadata import FILE_NAME, Metadata, weights_digest

METADATA = Metadata(
    class_names=["grün", "red"],
    input_shape=[8, 8, 1],
    thresholds=[0.25, 0.5],
    macs_per_exit=[10, 20, 30],
    macs_backbone=25,
    dataset="digits",
    epsilon="8/255",
    preset="digits",
    model_digest="0" * 64,
    package_version="0.1.0",
)
FIELDS = dataclasses.asdict(METADATA)


def test_what_is_written_is_read(tmp_path):
    METADATA.write(tmp_path)
    assert Metadata.read(tmp_path) == METADATA


def test_derived_facts():
    assert METADATA.num_exits == 3
    assert METADATA.epsilon_value == 8 / 255


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "\x00",
        json.dumps(FIELDS | {"more": 1}),
        json.dumps({key: value for key, value in FIELDS.items() if key != "thresholds"}),
    ],
    ids=["empty", "cut off", "a list", "binary", "unknown field", "missing field"],
)
def test_a_bad_file_is_named(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(InputError, match=r"Cannot read '.*metadata\.json'.*saved_models/<name>/<version>"):
        Metadata.read(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"metadata\.json"):
        Metadata.read(tmp_path)


def test_the_digest_tells_weights_and_thresholds_apart(tiny_model):
    fresh = weights_digest(tiny_model)
    assert weights_digest(tiny_model) == fresh
    tiny_model.thresholds.assign([0.1, 0.2])
    calibrated = weights_digest(tiny_model)
    assert calibrated != fresh
    bias = tiny_model.heads[-1].weights[-1]
    bias.assign(bias + 1)
    assert weights_digest(tiny_model) not in (fresh, calibrated)
