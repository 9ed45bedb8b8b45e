import dataclasses
import itertools
import json
import math
import signal
import subprocess
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rdi_keras import presets
from rdi_keras.cli.options import command, dump_config, load_config, parse_config
from rdi_keras.errors import InputError, StoppedError, TrainingDivergedError
from rdi_keras.presets import AttackConfig, CalibrationConfig, Config, DataConfig, ModelConfig, TrainingConfig


def parsed(*argv):
    found = parse_config("A command.", argv)
    return found and found[0]


@pytest.fixture
def yaml_file(tmp_path):
    def write(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return f"--config={path}"

    return write


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_resolves(name):
    assert parsed("--preset", name) == parsed(f"--preset={name}") == presets.preset(name)


def test_the_default_is_a_preset():
    assert parsed() == presets.preset(parsed().preset)


@pytest.mark.parametrize("order", itertools.permutations(range(3)), ids=str)
def test_a_flag_beats_yaml_beats_the_preset_in_any_order(yaml_file, order):
    config = yaml_file("seed: 3\nname: from-yaml\ntraining: {epochs: 7, attack: {num_steps: 2}}\n")
    flags = ["--seed", "5", "--training.attack.num_steps", "4"]
    parts = [config.split("="), ["--preset", "mnist"], flags]
    resolved = parsed(*(each for part in order for each in parts[part]))
    mnist = presets.preset("mnist")
    assert (resolved.seed, resolved.training.attack.num_steps) == (5, 4)
    assert (resolved.name, resolved.training.epochs) == ("from-yaml", 7)
    assert (resolved.preset, resolved.epsilon) == ("mnist", mnist.epsilon)
    assert resolved.training.batch_size == mnist.training.batch_size != TrainingConfig().batch_size


def test_yaml_may_name_the_preset(yaml_file):
    config = yaml_file("preset: mnist\nseed: 3\n")
    assert parsed(config) == dataclasses.replace(presets.preset("mnist"), seed=3)
    assert parsed(config, "--preset", "digits") == dataclasses.replace(presets.preset("digits"), seed=3)


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--epsilon", "8/255"], "epsilon", "8/255"),
        (["--epsilon", "0.3"], "epsilon", "0.3"),
        (["--epsilon", "1e-3"], "epsilon", "1e-3"),
        (["--twin", "false"], "twin", False),
        (["--model.exits_after", "[2]"], "model", ModelConfig(exits_after=[2])),
        (["--model.exits_after", "[]"], "model", ModelConfig(exits_after=[])),
        (
            ["--data.data_dir", "sets", "--data.train_limit", "9"],
            "data",
            DataConfig("digits", "sets", None, 9),
        ),
    ],
)
def test_a_flag_sets_its_field(flags, field, value):
    default = presets.preset("digits")
    assert parsed("--preset", "digits", *flags) == dataclasses.replace(default, **{field: value})


@pytest.mark.parametrize(("text", "value"), [("0.3", "0.3"), ("8/255", "8/255"), ("1e-3", "0.001")])
def test_yaml_may_give_a_budget_as_number_or_text(yaml_file, text, value):
    resolved = parsed(yaml_file(f"epsilon: {text}\ntraining: {{attack: {{step_size: {text}}}}}\n"))
    assert (resolved.epsilon, resolved.training.attack.step_size) == (value, value)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--preset", "imagenet"], "Unknown preset 'imagenet'"),
        (["--preset"], "--preset: expected one argument"),
        (["--nothing", "1"], "--nothing"),
        (["--pre", "mnist"], "--pre"),
        (["--training.nothing", "1"], "--training.nothing"),
        (["stray"], "stray"),
        (["--seed", "x"], "seed"),
        (["--training.epochs", "1.5"], "training.epochs"),
        (["--twin", "maybe"], "twin"),
        (["--calibration.shares", "[1,"], "calibration.shares"),
        (["--config", "no/such.yaml"], "no/such.yaml"),
    ],
)
def test_wrong_flags_are_one_line_that_names_them(argv, says):
    with pytest.raises(InputError) as caught:
        parsed(*argv)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing: 1", "nothing"),
        ("training: {nothing: 1}", "nothing"),
        ("seed: x", "seed"),
        ("training: {attack: {num_steps: many}}", "num_steps"),
        ("preset: imagenet", "Unknown preset 'imagenet'"),
        ("preset: [mnist]", "preset"),
        ("- 1", "- 1"),
        ("a: [", "parsing config"),
    ],
)
def test_wrong_yaml_is_one_line_that_names_it(yaml_file, text, says):
    with pytest.raises(InputError) as caught:
        parsed(yaml_file(text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])) | st.sampled_from(
    [
        "1",
        "1e3",
        "1E-3",
        "0x1F",
        "1_0",
        "1:30",
        "yes",
        "null",
        "~",
        "",
        "a: b # c",
        "8/255",
        "2024-01-01",
        "${a}",
    ]
)
NUMBERS = st.floats(allow_nan=False)
CONFIGS = st.builds(
    Config,
    name=TEXTS,
    seed=st.integers(),
    epsilon=TEXTS,
    twin=st.booleans(),
    data=st.builds(DataConfig, name=TEXTS, train_limit=st.none() | st.integers()),
    model=st.builds(ModelConfig, exits_after=st.lists(st.integers())),
    training=st.builds(
        TrainingConfig,
        attack=st.builds(AttackConfig, step_size=st.sampled_from([None, "2/255", "1e-3", "0.01"])),
        learning_rate=NUMBERS,
        exit_weights=st.none() | st.lists(NUMBERS),
    ),
    calibration=st.builds(CalibrationConfig, budget=NUMBERS, shares=st.none() | st.lists(NUMBERS)),
)


@settings(max_examples=40)
@given(CONFIGS)
def test_what_is_dumped_is_loaded(config):
    text = dump_config(config)
    assert load_config(text) == config
    assert yaml.safe_load(text) == dataclasses.asdict(config)


def test_what_is_dumped_is_taken_by_the_config_flag(yaml_file):
    config = dataclasses.replace(presets.preset("mnist"), name="1e3", epsilon="1e-3")
    assert parsed(yaml_file(dump_config(config))) == config


def test_list_presets_prints_every_preset_and_runs_nothing(capsys):
    assert parsed("--list-presets") is None
    printed = capsys.readouterr().out
    for name, make in presets.PRESETS.items():
        assert f"{name}\n{make.__doc__.strip().splitlines()[0]}" in printed


def test_help_shows_the_chosen_presets_fields(capsys):
    with pytest.raises(SystemExit) as caught:
        parsed("--help", "--preset", "mnist")
    assert caught.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "A command." in printed
    for part in ("default: mnist", "--training.attack.num_steps", "radius of the L∞ ball"):
        assert part in printed


def test_help_loads_no_tensorflow():
    code = """
import json, sys
from rdi_keras.cli import evaluate, export, fit
help_of_each = [(each.main, "--help") for each in (fit, evaluate, export)]
for main, argv in [*help_of_each, (fit.main, "--list-presets")]:
    try:
        print(main([argv]))
    except SystemExit as end:
        print(end.code)
print(json.dumps(sorted(name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert done.stdout.count("usage: ") == 3
    assert done.stdout.splitlines().count("0") == 4


@pytest.mark.parametrize(
    ("error", "status"), [(None, 0), (InputError("bad ε"), 2), (TrainingDivergedError("step 3: loss"), 1)]
)
def test_a_command_returns_a_status_and_says_a_line(capsys, error, status):
    @command
    def main(argv):
        assert argv == ["x"]
        if error:
            raise error

    assert main(["x"]) == status
    assert capsys.readouterr().err == (f"error: {error}\n" if error else "")


@pytest.mark.parametrize("is_saved", [True, False])
def test_a_stop_that_loses_work_is_no_success(capsys, is_saved):
    @command
    def main(argv):
        raise StoppedError(signal.SIGTERM, "some is kept", is_saved)

    assert main([]) == (0 if is_saved else 1)
    assert "stopped by SIGTERM; some is kept" in capsys.readouterr().out


def test_a_command_hides_no_other_error():
    @command
    def main(argv):
        return math.sqrt(-1)

    with pytest.raises(ValueError, match="expected a nonnegative input|math domain error"):
        main([])
