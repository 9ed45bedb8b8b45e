"""Every defence of the table trains; two of them make a matrix that is taken up where it was cut."""

import re

import pytest

from rdi_keras import training
from rdi_keras.cli import fit, matrix
from rdi_keras.errors import InputError
from rdi_keras.presets import Config
from rdi_keras.presets.defences import DEFENCES, REPLAYS, with_defence

FAST = [
    *("--data.train_limit=64", "--training.epochs=1", "--training.attack.num_steps=1"),
    *("--evaluation.suite=quick", "--evaluation.limit=8", "--evaluation.curve_samples=0"),
    "--evaluation.engine=none",
]


@pytest.mark.parametrize("name", DEFENCES)
def test_every_defence_is_built(name):
    config = with_defence(Config(), name)
    config.data.train_limit = 64
    model = training.build_model(config, training.load_data(config))
    assert model.robust_loss.needs_attack == (name != "none")
    assert (model.carried is not None) == (name == "free_at")
    assert config.training.epochs == (Config().training.epochs // REPLAYS if name == "free_at" else 40)


def test_an_unknown_defence_is_refused():
    with pytest.raises(InputError, match="Unknown defence 'hope'. Allowed: none, main, average"):
        with_defence(Config(), "hope")


def test_a_folder_for_the_table_is_refused_before_training(tmp_path, capsys):
    assert matrix.main([f"--out={tmp_path}", f"--runs_dir={tmp_path}/runs"]) == 2
    assert "The table is a file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_matrix_is_made_and_not_made_twice(tmp_path, capsys, monkeypatch):
    out = tmp_path / "table.md"
    where = [f"--runs_dir={tmp_path}/runs", f"--saved_models_dir={tmp_path}/saved", "--name=m"]
    command = [*FAST, *where, "--defences=none,free_at", f"--out={out}"]
    assert matrix.main(command) == 0
    said = capsys.readouterr().out
    assert f"written to {out}" in said
    # Without attacked images in training, held-out accuracy is said without them.
    lines = [line for line in said.splitlines() if line.startswith("model, epoch 1/1:")]
    assert len(lines) == 2
    assert "held out under attack" not in lines[0]
    assert re.search(r"held out [\d.]+ / [\d.]+ / [\d.]+ %", lines[0])
    assert re.search(r"held out under attack [\d.]+ / ", lines[1])
    table = out.read_text()
    assert "digits, ε = 0.1" in table
    assert re.findall(r"^\| (\w+) \| [\d.]+ \|", table, re.M) == ["none", "free_at"] * 2
    assert [each.name for each in (tmp_path / "saved").iterdir()] == []

    def fail(*arguments):
        raise AssertionError("trained or measured again")

    monkeypatch.setattr(fit, "_train", fail)
    monkeypatch.setattr("rdi_keras.cli.evaluate.evaluate_run", fail)
    assert matrix.main(command) == 0
    assert out.read_text() == table
    with pytest.raises(AssertionError, match="trained or measured again"):
        matrix.main([*command, "--overwrite=true"])


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--defences=hope", "Unknown defence 'hope'"),
        ("--evaluation.part=calibration", "A matrix is measured on the test part"),
    ],
)
def test_bad_input_is_one_line(flag, said, capsys):
    assert matrix.main([*FAST, flag]) == 2
    assert said in capsys.readouterr().err
