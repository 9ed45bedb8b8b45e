"""The page in a real browser, where there is one."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from app import models

START_SECONDS, STEP_SECONDS = 60, 60
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture
def browser():
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine: the page is not opened in a real browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed: the page is not opened in a real browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def address(model_folders, pytestconfig, tmp_path):
    """A running app's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
    options = ["--server.port", str(port), "--server.headless", "true", "--server.fileWatcherType", "none"]
    folders = dict(
        zip((models.RUNS_VARIABLE, models.SAVED_MODELS_VARIABLE), map(str, model_folders), strict=True)
    )
    log = tmp_path / "streamlit.log"
    with log.open("w") as output:
        app = subprocess.Popen(
            [*command, *options],
            cwd=pytestconfig.rootpath,
            env=os.environ | folders,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_healthy(app, address, log)
        yield address
    finally:
        app.terminate()
        try:
            app.wait(10)
        except subprocess.TimeoutExpired:
            app.kill()
            app.wait()


def wait_until_healthy(app, address, log):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and app.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the app did not start:\n{log.read_text()}")


def test_a_visitor_picks_a_sample_attacks_it_and_uploads(browser, address, digit_png):
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.set_default_timeout(STEP_SECONDS * 1000)
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)

    page.get_by_role("heading", name="Watch it decide").wait_for()
    page.get_by_text("answers here").wait_for()
    assert page.locator(".stages li").count() == 3
    assert page.locator(".stages li.answers").count() == 1

    page.get_by_role("button", name="Attack", exact=True).click()
    page.get_by_text("The exits on the attacked image").wait_for()
    assert page.locator(".stages li.answers").count() == 2

    page.get_by_text("My own image").click()
    chooser = page.locator("input[type=file]")
    chooser.set_input_files({"name": "bad.png", "mimeType": "image/png", "buffer": b"no image"})
    page.get_by_text("not an image").wait_for()
    chooser.set_input_files({"name": "digit.png", "mimeType": "image/png", "buffer": digit_png})
    page.get_by_text("What the model sees: 8×8×1").wait_for()
    page.get_by_text("answers here").wait_for()

    # Nothing sticks out to the side on a phone.
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("[data-testid=stException]").count() == 0
    assert faults == []
