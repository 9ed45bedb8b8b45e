"""Journeys through the app in a real browser, where there is one.

With RDI_SCREENSHOTS_DIR set, pictures of the pages are left in that folder.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from app import images, models, samples

SCREENSHOTS = os.environ.get("RDI_SCREENSHOTS_DIR")
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
def address(digits_folder, pytestconfig, tmp_path):
    """A running app's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
    options = ["--server.port", str(port), "--server.headless", "true", "--server.fileWatcherType", "none"]
    folders = {
        models.RUNS_VARIABLE: str(tmp_path / "absent"),
        models.SAVED_MODELS_VARIABLE: str(digits_folder),
    }
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


@pytest.fixture
def visit(browser, address):
    """Opens a page and checks at the end that nothing was wrong with it."""
    opened = []

    def visit(path="", width=400, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        page = context.new_page()
        page.set_default_timeout(STEP_SECONDS * 1000)
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{address}/{path}")
        opened.append((page, faults, width))
        return page

    yield visit
    for page, faults, width in opened:
        # Nothing sticks out to the side on a phone.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("[data-testid=stException]").count() == 0
        assert faults == []


def picture(page, name):
    if SCREENSHOTS:
        page.wait_for_timeout(2500)  # Until the sample has travelled and figures are drawn.
        page.screenshot(path=f"{SCREENSHOTS}/{name}.png")


def answer(page) -> str:
    return page.locator(".stages li.answers .answer").first.inner_text()


def give(page, name: str, data: bytes):
    chooser = page.locator("input[type=file]")
    chooser.set_input_files({"name": name, "mimeType": "image/png", "buffer": data})


def test_upload_decide_attack_download_and_upload_again(visit, digit_png):
    test = samples.load_samples("digits", (8, 8, 1), 10)
    sample = images.png(test.images[1])
    # 0.3: three times what the model was trained against, which fools it.
    page = visit("attack?image_source=My+images&eps_25.5=76.5&steps_100=40")
    page.get_by_text("Upload an image to attack it").wait_for()
    give(page, "bad.png", b"no image")
    page.get_by_text("not an image").wait_for()
    give(page, "sample.png", sample)
    page.get_by_text("What the model sees: 8×8×1").wait_for()
    page.get_by_role("button", name="Attack", exact=True).click()
    page.get_by_text("Fooled:").wait_for()
    page.get_by_text("Checked: the PNG, read again").wait_for()
    attacked = answer(page)
    assert attacked != str(test.labels[1])
    with page.expect_download() as download:
        page.get_by_role("button", name="Attacked image (PNG)").click()
    file = download.value.path().read_bytes()
    assert download.value.suggested_filename == "sample-attacked.png"

    again = visit("?image_source=My+images")
    give(again, "again.png", file)
    again.get_by_text("answers here").wait_for()
    assert answer(again) == attacked


def test_moving_the_threshold_moves_the_exit_and_the_address(visit):
    page = visit("?sample=3", width=1200)
    page.get_by_text("answers here").wait_for()
    picture(page, "watch")
    slider = page.get_by_test_id("stSidebar").get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    page.get_by_text("Nobody leaves early").wait_for()
    page.get_by_text("3 of 3").wait_for()
    assert "scale=-10" in page.url
    page.keyboard.press("End")
    page.get_by_text("1 of 3").wait_for()
    shared = visit(page.url.rpartition("/")[2], width=1200)
    shared.get_by_text("1 of 3").wait_for()


def test_every_page_is_whole_on_a_phone_and_in_the_dark(visit):
    page = visit("attack?eps_25.5=51", color_scheme="dark")
    page.get_by_role("button", name="Attack", exact=True).click()
    page.get_by_text("Step by step").wait_for()
    picture(page, "attack-dark-phone")
    for name, text in {
        "wins": "The whole table",
        "compare": "no second model",
        "batch": "ZIP archive",
        "where": "in this process",
        "about": "To cite",
    }.items():
        page = visit(name)
        page.get_by_text(text).first.wait_for()
    page = visit("wins", width=1200)
    page.get_by_text("Where samples leave").wait_for()
    picture(page, "wins")
    if not SCREENSHOTS:
        return
    page = visit("attack?eps_25.5=51&sample=3", width=1200)
    page.get_by_role("button", name="Attack", exact=True).click()
    page.get_by_text("Step by step").wait_for()
    page.get_by_text("Step by step").scroll_into_view_if_needed()
    picture(page, "attack")
