"""What documents show runs, what they name is there, and every public name is in the API reference."""

import ast
import contextlib
import functools
import importlib
import importlib.util
import io
import os
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import rdi_keras as rdi

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "serving" / "README.md",
    *sorted((ROOT / "saved_models").glob("*/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
# A block may say, on the line before it, which modules and environment variables it needs:
# <!-- needs: torch, TFDS_DATA_DIR -->
BLOCK = re.compile(r"(?:<!-- needs: (.*?) -->\n+)?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _name(document):
    return document.relative_to(ROOT).with_suffix("").as_posix()


BLOCKS = [
    pytest.param(_name(document), needs, block, id=f"{_name(document)}-{number}")
    for document in DOCUMENTS
    for number, (needs, block) in enumerate(BLOCK.findall(document.read_text()))
]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """A folder per document, in which the models that ship lie: what a block writes, a later one may read."""

    @functools.cache
    def make(name):
        folder = tmp_path_factory.mktemp("document")
        for version in (ROOT / "saved_models").glob("*/*"):
            link = folder / version.relative_to(ROOT)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(version)
        return folder

    return make


@pytest.mark.parametrize(("document", "needs", "block"), BLOCKS)
def test_code_blocks_run(document, needs, block, folder_of, monkeypatch):
    for each in filter(None, re.split(r",\s*", needs)):
        there = os.environ.get(each) if each.isupper() else importlib.util.find_spec(each)
        if not there:
            pytest.skip(f"needs {each}")
    monkeypatch.chdir(folder_of(document))  # What a block writes is not left in the tree.
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(compile(block, "document", "exec"), {"__name__": "document"})


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_lead_somewhere(document):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", _prose(document))
    missing = [
        each for each in targets if not each.startswith("http") and not (document.parent / each).exists()
    ]
    assert missing == []


def test_site_turns_links_out_of_docs_into_text_or_links_to_the_repository():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = SimpleNamespace(file=SimpleNamespace(src_uri="results/mnist.md"))
    text = "[it](../../README.md#serving) [README.md](../../README.md) [in](../app.md) [none](../../none.md)"
    config = SimpleNamespace(config_file_path=str(ROOT / "mkdocs.yml"), repo_url=None)
    left = "[in](../app.md) [none](../../none.md)"
    assert hooks.on_page_markdown(text, page, config) == f"it (`README.md`) `README.md` {left}"
    config.repo_url = "https://example.org/me/it/"
    url = "https://example.org/me/it/blob/HEAD/README.md"
    assert hooks.on_page_markdown(text, page, config) == f"[it]({url}#serving) [README.md]({url}) {left}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_commands_are_there_and_take_their_flags(document):
    wrong = []
    for words in filter(None, map(_words, _command_lines(document))):
        allowed = _flags(words[0], tuple(words[1:]))
        if allowed is None:
            wrong.append(f"unknown: {shlex.join(words)}")
        else:
            given = {each.partition("=")[0] for each in words if each.startswith("--")}
            wrong += [f"{each} of {words[0]}" for each in sorted(given - allowed)]
    assert wrong == []


def _prose(document):
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def _command_lines(document):
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return lines + [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", _prose(document))]


def _words(line):
    """The words of a command that is this project's own, its name first; else none."""
    with contextlib.suppress(ValueError):  # Not a line of a shell.
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        own = r"make|rdi-\w+|(training|benchmarks|examples)/[\w/]+\.py"
        if words and re.fullmatch(r"(.*/)?python3?", words[0]):
            own = r"(rdi_keras|benchmarks)(\.\w+)+" if "-m" in words[1:2] else own
            words = words[1 + ("-m" in words[1:2]) :]
        if (words and re.fullmatch(own, words[0])) or words[:2] == ["pip", "install"]:
            return words
    return []


@functools.cache
def _flags(command, arguments):
    """The flags that a command takes; `None` if there is no such command."""
    if command == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        return set() if {each for each in arguments if "=" not in each} <= targets else None
    if command == "pip":
        extras = re.findall(r"\.\[([\w,-]+)\]", " ".join(arguments))
        known = set(PROJECT["tool"]["setuptools"]["dynamic"]["optional-dependencies"])
        return set(arguments) if {each for group in extras for each in group.split(",")} <= known else None
    if command.startswith("rdi-"):
        return _help(PROJECT["project"]["scripts"].get(command, "").partition(":")[0])
    if command.startswith("rdi_keras."):
        return _help(command)
    file = ROOT / command
    if command.startswith("training/") and file.is_file():
        return _help(re.search(r"from (rdi_keras\.cli\.\w+) import main", file.read_text())[1])
    # Their parsers come after imports that take long: the text says enough.
    files = [file] if command.endswith(".py") else [*ROOT.glob(f"{command.replace('.', '/')}/*.py")]
    if not files or not all(each.is_file() for each in files):
        return None
    return {"--help"}.union(*(re.findall(r'"(--[\w-]+)"', each.read_text()) for each in files))


@functools.cache
def _help(module):
    if not module or importlib.util.find_spec(module) is None:
        return None
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        importlib.import_module(module).main(["--help"])
    return set(re.findall(r"--[\w.-]+", shown.getvalue()))


def _module_file(dotted):
    file = ROOT / dotted.replace(".", "/")
    return file / "__init__.py" if file.is_dir() else file.with_suffix(".py")


PARTS = [name for name in rdi.__all__ if _module_file(f"rdi_keras.{name}").is_file()]


def _public_names(part):
    tree = ast.parse(_module_file(f"rdi_keras.{part}").read_text())
    return tree, next(ast.literal_eval(each.value) for each in tree.body if _target(each) == "__all__")


@functools.cache
def _api_reference():
    """The names that it holds, each as a list from the package on."""
    pages = [page.read_text() for page in (ROOT / "docs" / "api").glob("*.md")]
    return [each.split(".") for page in pages for each in re.findall(r"^::: (\S+)$", page, re.MULTILINE)]


@pytest.mark.parametrize("part", PARTS)
def test_api_reference_holds_every_public_name(part):
    # A name that is also a module's stands with that module before it.
    shown = [path[-1] for path in _api_reference() if path[1] == part and len(path) > 2]
    assert sorted(shown) == sorted(_public_names(part)[1])


def test_api_reference_holds_every_name_of_the_package():
    assert set(rdi.__all__) - set(PARTS) <= {path[-1] for path in _api_reference()}


@pytest.mark.parametrize("part", PARTS)
def test_public_names_have_docstrings(part):
    tree, names = _public_names(part)
    assert ast.get_docstring(tree)
    assert [name for name in names if not _docstring(tree, name)] == []


def _docstring(tree, name):
    """What a module says of a name: the docstring of a definition, or the text after an assignment."""
    # Imports for type checkers alone count.
    body = [each for node in tree.body for each in (node.body if isinstance(node, ast.If) else [node])]
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ImportFrom) and name in [each.name for each in node.names]:
            return _docstring(ast.parse(_module_file(node.module).read_text()), name)
        if getattr(node, "name", None) == name:
            return ast.get_docstring(node)
        if _target(node) == name:
            return isinstance(after, ast.Expr) and ast.literal_eval(after.value)
    return None


def _target(node):
    """The one name that a statement gives a value to."""
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return getattr(target, "id", None)
