"""YAML that would run code, import modules, read other files, or grow without end."""

import sys

import jsonargparse
import pytest

from rdi_keras.cli import evaluate
from rdi_keras.cli.options import load_config, parse_config, read_config
from rdi_keras.errors import InputError
from rdi_keras.presets import Config
from rdi_keras.runs import CONFIG_FILE
from rdi_keras.training import load_data
from tests.security.conftest import MODULE

LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
)
TEXTS = {
    "a call": "name: !!python/object/apply:os.mkdir [written]",
    "an object": "data: !!python/object/new:os.mkdir [written]",
    "a name": "name: !!python/name:os.mkdir",
    "a module": f"name: !!python/module:{MODULE}",
    "a class as a section": f"training: {{class_path: {MODULE}.Trap}}",
    "a class with arguments": f"data: {{class_path: {MODULE}.Trap, init_args: {{x: 1}}}}",
    "a class deep inside": f"training: {{attack: {{class_path: {MODULE}.Trap}}}}",
    "a class on top": f"class_path: {MODULE}.Trap",
    "a class by a dotted name": f"data.class_path: {MODULE}.Trap",
    "a class by a longer one": f"training.attack.class_path: {MODULE}.Trap",
    "a class by half of one": f"training: {{attack.class_path: {MODULE}.Trap}}",
    "a file by a dotted name": "training.attack: /dev/zero",
    "a tag without a value": 'seed: !!int ""',
    "a tag with a wrong one": "name: !!timestamp x",
    "another configuration": "config: /etc/hostname",
    "a file as a section": "training: /dev/zero",
    "a file as a section deep inside": "training: {attack: /dev/zero}",
    "a billion laughs": LAUGHS,
    "a shared part": "data: &part {name: digits}\nmodel: *part",
    "a deep list": f"name: {'[' * 5000}{']' * 5000}",
    "a long number": f"seed: {'9' * 5000}",
    "a long text": f"name: {'1:' * 100_000}1",
    "no text": "\x00\x01",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_hostile_yaml_is_refused_in_a_line(tmp_path, trap_module, kind):
    (tmp_path / "hostile.yaml").write_text(TEXTS[kind])
    for read in (
        lambda: load_config(TEXTS[kind]),
        lambda: parse_config("", ["--config", str(tmp_path / "hostile.yaml")]),
    ):
        with pytest.raises(InputError) as caught:
            read()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000


def test_the_trap_works(trap_module, canary):
    """What reads YAML here would import the class, were it not kept from it."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Config, nested_key=None)
    with pytest.raises(jsonargparse.ArgumentError):
        parser.parse_string(TEXTS["a class as a section"])
    canary.rmdir()
    del sys.modules[MODULE]


def test_a_run_with_a_hostile_configuration_is_refused(run, trap_module, capsys):
    (run / CONFIG_FILE).write_text(TEXTS["a class as a section"])
    assert evaluate.main([str(run)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "class_path" in said


def test_bytes_are_no_configuration(run, tmp_path):
    (run / CONFIG_FILE).write_bytes(b"\x80\x04\x95")
    with pytest.raises(InputError, match=r"config\.yaml"):
        read_config(run / CONFIG_FILE)
    with pytest.raises(InputError):
        parse_config("", ["--config", str(run / CONFIG_FILE)])


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "inside/deeper", "..", ".", ""])
def test_a_configuration_cannot_name_a_folder_elsewhere(name):
    with pytest.raises(InputError, match="name must be that of one folder"):
        load_data(Config(name=name))
