"""The package as strangers meet it: its names, its import, and what is built of it."""

import importlib
import inspect
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import rdi_keras as rdi

ROOT = Path(__file__).parents[1]
PARTS = [name for name in rdi.__all__ if inspect.ismodule(getattr(rdi, name))]
# What parts may load of others beside TensorFlow and what it loads itself.
LOADED = {"grpc", "pyarrow", "tensorflow_serving"}
# Seconds of a CPU that an import may take; twice as many in a test, for machines that have other work too.
BOUND = 2 * 0.3
HIDDEN = {"PYTHONPATH", "COVERAGE_PROCESS_CONFIG"}


def python(code, **options):
    """What a new interpreter prints."""
    return run([sys.executable, "-c", code], **options)


def run(command, **options):
    # Nothing of this source tree is to be found, and nothing to be measured, where it is not asked for.
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=kept, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_every_public_name_is_there():
    for name in rdi.__all__:
        assert getattr(rdi, name) is not None
    assert [name for name in dir(rdi) if not name.startswith("__")] == rdi.__all__


@pytest.mark.parametrize("part", PARTS)
def test_a_part_shows_its_public_names_alone(part):
    module = importlib.import_module(f"rdi_keras.{part}")
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert not name.startswith("_")


def test_parts_that_are_told_of_are_those_that_are_there():
    assert all(f"`rdi.{part}`" in rdi.__doc__ for part in PARTS)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rdi.nothing


def test_an_evaluation_refuses_a_setting_that_it_does_not_have():
    with pytest.raises(rdi.InputError, match="no setting 'speed'. Allowed: epsilon, data_dir, part"):
        rdi.evaluate("runs/nowhere", speed=1)


def test_importing_the_package_takes_nothing_but_python():
    loaded, seconds = python(
        "import sys, time; start = time.process_time(); import rdi_keras, rdi_keras.presets; "
        "spent = time.process_time() - start; "
        "print(*{each.partition('.')[0] for each in sys.modules} - sys.stdlib_module_names, sep=','); "
        "print(spent)"
    ).splitlines()
    found = {each for each in loaded.split(",") if not each.startswith(("_", "rdi_keras"))}
    # What site-packages' own .pth files load is there before.
    before = python("import sys; print(*{each.partition('.')[0] for each in sys.modules}, sep=',')")
    assert found <= set(before.strip().split(","))
    assert float(seconds) < BOUND


def test_all_parts_add_little_to_tensorflow():
    added, seconds = python(
        "import sys, time, tensorflow, keras; keras.Model; before = set(sys.modules); "
        "start = time.process_time(); import rdi_keras as rdi; "
        f"all(getattr(rdi, part) for part in {PARTS}); spent = time.process_time() - start; "
        "print(*{each.partition('.')[0] for each in set(sys.modules) - before}, sep=','); print(spent)"
    ).splitlines()
    ours = {each for each in added.split(",") if not each.startswith("_")}
    assert ours - sys.stdlib_module_names <= LOADED | {"rdi_keras"}
    assert float(seconds) < BOUND


BUILD = "import sys; from setuptools import build_meta; print(build_meta.{kind}(sys.argv[1]))"


def build(kind, tree, out):
    name = run([sys.executable, "-c", BUILD.format(kind=kind), str(out)], cwd=tree).splitlines()[-1]
    return out / name


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the source tree, as builds write into it; its wheel, and the wheel made of its sdist."""
    folder = tmp_path_factory.mktemp("built")
    hidden = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "__pycache__", "runs", "saved_models", "docs", "site"
    )
    tree = Path(shutil.copytree(ROOT, folder / "tree", ignore=hidden))
    for each in ("runs/trial/model.keras", "saved_models/trial/1/saved_model.pb"):
        (tree / each).parent.mkdir(parents=True)
        (tree / each).touch()
    sdist = build("build_sdist", tree, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (folder / "again").mkdir()
    again = build("build_wheel", folder / sdist.name.removesuffix(".tar.gz"), folder / "again")
    return tree, build("build_wheel", tree, folder), again


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_package_and_nothing_else(built):
    tree, wheel, _ = built
    files = contents(wheel)
    inside = {name for name in files if not name.startswith(f"rdi_keras-{rdi.__version__}.dist-info/")}
    expected = {path.relative_to(tree).as_posix() for path in (tree / "rdi_keras").rglob("*.*")}
    assert inside == expected - {name for name in expected if "__pycache__" in name}
    for name in ("py.typed", "evaluation/report.schema.json", "serving/litert_stages.py", "presets/mnist.py"):
        assert f"rdi_keras/{name}" in inside


def test_the_sdist_builds_the_same_wheel(built):
    _, wheel, again = built
    here, there = contents(wheel), contents(again)
    assert set(here) == set(there)
    assert [name for name in here if here[name] != there[name]] == []


def test_the_wheel_says_what_it_needs(built):
    _, wheel, _ = built
    said = Parser().parsestr(contents(wheel)[f"rdi_keras-{rdi.__version__}.dist-info/METADATA"].decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [
        line for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:1] not in ("", "#")
    ]
    assert [each for each in said.get_all("Requires-Dist") if "extra ==" not in each] == needed
    extras = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    assert sorted(said.get_all("Provides-Extra")) == sorted(extras)
    assert said["Version"] == project["project"]["version"] == rdi.__version__


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """An empty environment with the wheel, which sees this one's packages but for this source tree."""
    _, wheel, _ = built
    place = tmp_path_factory.mktemp("empty") / "venv"
    venv.create(place, symlinks=True)
    binary = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(binary), "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)])
    [site] = place.glob("lib/python*/site-packages")
    # Behind its own, and their .pth files, such as that of an installation for development, are not read.
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return place


def test_the_wheel_imports_in_an_empty_environment(installed, tmp_path):
    code = "import rdi_keras; print(rdi_keras.__file__, rdi_keras.__version__, rdi_keras.Config().name)"
    found = run([str(installed / "bin" / "python"), "-c", code], cwd=tmp_path).split()
    assert Path(found[0]).is_relative_to(installed)
    assert found[1:] == [rdi.__version__, "digits"]


COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_wheel_tells_its_options(installed, command, tmp_path):
    shown = run([str(installed / "bin" / command), "--help"], cwd=tmp_path)
    assert shown.startswith(f"usage: {command}")
    module = importlib.import_module(COMMANDS[command].partition(":")[0])
    assert " ".join(module.DESCRIPTION.split()[:5]) in " ".join(shown.split())
