"""What no Python file of the product may do, by its syntax tree."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("rdi_keras", "app", "training", "serving", "benchmarks", "docs", "examples")
MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "tarfile"}
KEYWORDS = {
    ("safe_mode", False),
    ("allow_pickle", True),
    ("weights_only", False),
    ("shell", True),
    ("unsafe_allow_html", True),
    ("unsafe_allow_javascript", True),
}
NAMES = {"eval", "exec", "__import__"}
ATTRIBUTES = {
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
    "tempfile.mktemp",
    "keras.config.enable_unsafe_deserialization",
}
# What a call must say, as its default is unsafe or may become so.
DEMANDS = {"np.load": "allow_pickle", "torch.load": "weights_only", "Image.open": "formats"}
# Functions that read a SavedModel's graph before TensorFlow opens it.
LOOKS = {"rdi_keras/serving/engines.py", "rdi_keras/serving/versions.py"}


def files() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def offences(tree: ast.AST, name: str) -> Iterator[str]:
    """What in a file is forbidden, a line each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = {each.name.partition(".")[0] for each in node.names}
        else:
            imported = {(node.module or "").partition(".")[0]} if isinstance(node, ast.ImportFrom) else set()
        yield from (f"imports {each}" for each in imported & MODULES)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ATTRIBUTES:
            yield f"uses {ast.unparse(node)}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            said = {each.arg: getattr(each.value, "value", ...) for each in node.keywords}
            yield from (f"says {key}={value}" for key, value in said.items() if (key, value) in KEYWORDS)
            if called in NAMES:
                yield f"calls {called}"
            if DEMANDS.get(called) not in (None, *said):
                yield f"calls {called} without {DEMANDS[called]}"
            if called == "tf.saved_model.load" and name not in LOOKS:
                yield f"calls {called} without a look at the graph"


def test_no_file_does_what_is_forbidden():
    names = {path.relative_to(ROOT).as_posix(): path.read_text() for path in files()}
    assert len(names) > 100
    assert not {name: found for name, text in names.items() if (found := [*offences(ast.parse(text), name)])}


def test_files_that_open_saved_models_look_first():
    for name in LOOKS:
        text = (ROOT / name).read_text()
        assert text.count("tf.saved_model.load(") == 1
        assert text.index("read_graphs(") < text.index("tf.saved_model.load(")


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "keras.models.load_model(path, safe_mode=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "torch.load(path)",
        "Image.open(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "st.markdown(text, unsafe_allow_html=True)",
        "tf.saved_model.load(path)",
    ],
)
def test_the_search_finds(text):
    assert list(offences(ast.parse(text), "app/x.py"))
