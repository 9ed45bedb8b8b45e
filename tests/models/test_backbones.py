import pytest

from rdi_keras import models
from rdi_keras.errors import InputError


def test_a_backbone_is_made_by_name_with_its_own_options():
    made = models.backbone("small_cnn", (8, 8, 1), 3, exits_after=[2])
    assert made.name == "small_cnn"
    assert made.input_shape == (8, 8, 1)
    assert [stage.head is not None for stage in made.stages] == [False, True, False, False, True]


def test_an_unknown_backbone_is_named_with_what_is_allowed():
    with pytest.raises(InputError, match=r"Unknown backbone 'vgg'\. Allowed: .*small_cnn"):
        models.backbone("vgg", (8, 8, 1), 3)
