import importlib.metadata
import json
import platform
import re
import subprocess

import pytest

from rdi_keras.cli import machine


def test_environment_holds_versions_and_the_seed():
    found = machine.environment(seed=7)
    assert found["seed"] == 7
    assert found["python"] == platform.python_version()
    assert set(found["packages"]) == set(machine.PACKAGES)
    assert found["packages"]["tensorflow"] == importlib.metadata.version("tensorflow")
    assert found["rdi_keras"]
    assert found["platform"]
    assert json.loads(json.dumps(found)) == found


def test_git_commit_is_a_whole_hash_or_none():
    commit = machine.environment(seed=0)["git_commit"]
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)


@pytest.mark.parametrize(
    "error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")], ids=["no git", "no repo"]
)
def test_git_commit_is_none_where_git_cannot_tell(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(machine.subprocess, "run", fail)
    assert machine.environment(seed=0)["git_commit"] is None
