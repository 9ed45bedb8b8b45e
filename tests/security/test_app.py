"""The app with a model whose names and report are hostile, started anywhere, and asked over the network."""

import html.parser
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from app import batch, models
from rdi_keras.metadata import FILE_NAME
from tests.app.conftest import start  # noqa: F401 - a fixture.
from tests.app.visiting import texts

SCRIPT = "<script>alert(1)</script>"
NAMES = [
    SCRIPT,
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "![x](https://example.org/x.png)",
    "</li><iframe src=https://example.org></iframe>",
    "`x` $x$ :red[x] **x** ~~x~~",
    '"><svg onload=alert(1)>',
    "\n\n# x\n\n|a|b|\n|-|-|",
    "=1+1",
    "../../../etc/passwd",
]
# What the app's own boxes are made of.
TAGS = {"style", "div", "span", "ol", "li", "b", "figure", "img", "figcaption"}
ATTRIBUTES = {"class", "style", "aria-hidden", "src", "alt"}


@pytest.fixture
def hostile(pytestconfig, tmp_path) -> Path:
    """A folder of SavedModels with the digits model, in whose every text is markup."""
    folder = tmp_path / "saved_models"
    shutil.copytree(pytestconfig.rootpath / "saved_models" / "digits" / "1", folder / "digits" / "1")
    metadata = json.loads((folder / "digits" / "1" / FILE_NAME).read_text())
    texts = {"epsilon": "0.1", "preset": SCRIPT, "package_version": SCRIPT}
    (folder / "digits" / "1" / FILE_NAME).write_text(json.dumps(metadata | texts | {"class_names": NAMES}))
    report = json.loads((folder / "digits" / "1" / "report.json").read_text())
    report |= dict.fromkeys(("dataset", "split", "suite", "epsilon_text", "preset"), SCRIPT)
    report["flags"] = [{"name": SCRIPT, "value": 0.5, "message": NAMES[1]}]
    (folder / "digits" / "1" / "report.json").write_text(json.dumps(report))
    return folder


class Parsed(html.parser.HTMLParser):
    """Tags and attributes of the boxes."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.sources = set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources += [value for name, value in attrs if name == "src"]


@pytest.mark.parametrize("name", ["watch", "attack", "wins", "compare", "batch", "where", "about"])
def test_names_and_reports_are_shown_as_text(start, hostile, tmp_path, name):  # noqa: F811
    page = start(tmp_path / "runs", hostile, name)
    if name == "attack":
        page = next(each for each in page.button if each.label == "Attack").click().run()
    assert not page.exception
    shown = [*page.markdown, *page.caption, *page.info, *page.error, *page.warning, *page.success]
    assert not any(getattr(each, "allow_html", False) for each in shown)
    for each in shown:  # Every bracket is escaped, so that Markdown sees neither tag, link nor image.
        bare = each.value.replace(r"\<", "").replace(r"\[", "").replace(r"\]", "")
        assert "<script" not in bare
        assert "](javascript" not in bare
        assert "![" not in bare
    boxes = Parsed("".join(each.proto.body for each in page.get("html")))
    assert boxes.tags <= TAGS
    assert boxes.attributes <= ATTRIBUTES
    assert all(each.startswith("data:image/png") for each in boxes.sources)
    if name in ("wins", "about"):
        assert SCRIPT in texts(page)  # As text.
    if name in ("watch", "attack"):
        assert boxes.tags


def test_no_class_name_is_a_formula():
    row = batch.Row("x.png", "=HYPERLINK(1)", 0.5, 1, 0.1, 10, False)
    assert "'=HYPERLINK(1)" in batch.csv([row]).decode()


def test_a_folder_whose_name_is_no_text_is_left_out(hostile):
    for name in (b"\xff", b"a\nb"):
        shutil.copytree(hostile / "digits", hostile / os.fsdecode(name))
    shutil.copytree(hostile / "digits" / "1", hostile / "digits" / "²")
    assert [each.name for each in models.find_models(hostile / "none", hostile)] == ["digits/1"]


def test_a_model_with_spoilt_metadata_does_not_spoil_the_others(hostile):
    shutil.copytree(hostile / "digits", hostile / "spoilt")
    (hostile / "spoilt" / "1" / FILE_NAME).write_text('{"input_shape": 5}')
    found = {each.name: each.facts for each in models.find_models(hostile / "none", hostile)}
    assert found["spoilt/1"] == "its metadata cannot be read"
    assert models.best(models.find_models(hostile / "none", hostile)).name == "digits/1"


def listening(port: int) -> set[str]:
    """The addresses, as Linux writes them, on which this machine listens on a port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A" and int(local.partition(":")[2], 16) == port:
                found.add(local.partition(":")[0])
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's list of sockets")
@pytest.mark.parametrize("started_in", ["the project", "another folder"])
def test_the_app_listens_to_this_machine_only(pytestconfig, tmp_path, started_in):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(pytestconfig.rootpath / "app" / "main.py")]
    command += ["--server.headless", "true", "--server.port", str(port)]
    folder = pytestconfig.rootpath if started_in == "the project" else tmp_path
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            ends = time.monotonic() + 120
            while not (found := listening(port)) and server.poll() is None and time.monotonic() < ends:
                time.sleep(0.2)
        finally:
            server.kill()  # Told to end while it starts, Streamlit may not.
    assert found == {"0100007F"}


def test_protections_of_the_server_are_on(pytestconfig):
    server = tomllib.loads((pytestconfig.rootpath / "app" / ".streamlit" / "config.toml").read_text())[
        "server"
    ]
    assert server["address"] == "127.0.0.1"
    assert server["maxUploadSize"] == 64
    for name in ("enableXsrfProtection", "enableCORS"):
        assert server.get(name, True) is True
