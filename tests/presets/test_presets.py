import re

import pytest

from rdi_keras import models, presets
from rdi_keras.cli.options import dump_config, load_config
from rdi_keras.errors import InputError
from rdi_keras.names import parse_epsilon
from rdi_keras.presets import AttackConfig, Config

EVERY_PRESET = pytest.mark.parametrize("name", presets.PRESETS)


@EVERY_PRESET
def test_a_preset_can_be_run(name):
    config = presets.preset(name)
    assert config.preset == config.name == name
    assert parse_epsilon(config.epsilon) > 0
    assert not config.overwrite
    backbone = models.backbone(config.model.backbone, (32, 32, 3), 10, exits_after=config.model.exits_after)
    assert len([stage for stage in backbone.stages if stage.head]) > 1
    assert 0 < config.calibration.budget < 1
    assert load_config(dump_config(config)) == config


@EVERY_PRESET
def test_every_call_gives_a_configuration_of_its_own(name):
    changed = presets.preset(name)
    changed.model.backbone = "none"
    changed.training.attack.num_steps = -1
    assert presets.preset(name) != changed
    assert presets.preset(name) == presets.preset(name)


def test_an_unknown_preset_is_named_with_what_is_allowed():
    said = r"Unknown preset 'imagenet'\. Allowed: digits, mnist, fashion_mnist, cifar10"
    with pytest.raises(InputError, match=said):
        presets.preset("imagenet")


def test_the_description_names_every_preset_and_says_something_of_it():
    paragraphs = presets.describe_presets().split("\n\n")
    names = [each.splitlines()[0] for each in paragraphs if each.splitlines()[0] in presets.PRESETS]
    assert names == list(presets.PRESETS)
    for name, make in presets.PRESETS.items():
        assert f"{name}\n{make.__doc__.strip().splitlines()[0]}" in presets.describe_presets()


def test_a_budget_given_as_a_number_becomes_text():
    assert Config(epsilon=0.3).epsilon == "0.3"
    assert AttackConfig(step_size=0.01).step_size == "0.01"
    assert AttackConfig().step_size is None
    assert AttackConfig(epsilon=0.02).epsilon == "0.02"
    assert AttackConfig().epsilon is None


@EVERY_PRESET
def test_a_preset_says_its_command_time_and_result(name):
    text = presets.PRESETS[name].__doc__
    assert f"Command: python training/fit.py --preset {name}\n" in text
    assert re.search(r"Time: .*\d.* minutes on 2 CPU cores", text)
    assert re.search(r"Result: .*TA \d+\.\d %, worst case \d+\.\d %", text, re.DOTALL)
