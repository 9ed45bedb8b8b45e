"""How quick the app answers, and what more visitors cost, measured without a browser in one process.

    python benchmarks/app_speed.py

Prints seconds on a clock, each with what is aimed for: run it on an idle machine. The network is an untrained
SmallCNN on 28×28 images, so that nothing is reached before the last step of an attack.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from rdi_keras.data.tfds import DATA_DIR_VARIABLE
from rdi_keras.metadata import describe
from rdi_keras.models import MultiExitModel, small_cnn
from rdi_keras.runs import MODEL_FILE

ROOT = Path(__file__).resolve().parents[1]
VISITORS = 10


def main() -> None:
    """Makes a model, opens the app on it, and prints the figures."""
    sys.path.insert(0, str(ROOT))  # Where `app` is.
    from streamlit.testing.v1 import AppTest

    from app import images, models

    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder, "runs", "mnist"))
        os.environ |= {models.RUNS_VARIABLE: f"{folder}/runs", models.SAVED_MODELS_VARIABLE: f"{folder}/none"}
        os.environ.pop(DATA_DIR_VARIABLE, None)
        os.chdir(ROOT)
        random = np.random.default_rng(0)

        def visitor() -> AppTest:
            # A picture of its own: nothing that another visitor asked for answers it.
            picture = images.png(random.integers(0, 256, (28, 28), np.uint8))
            page = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=120).run()
            page.file_uploader(key="upload").set_value([("a.png", picture, "image/png")]).run()
            check(page)
            return page

        def move(page: AppTest, place: int) -> None:
            page.sidebar.slider[0].set_value(place).run()
            check(page)

        def attack(page: AppTest, steps: int) -> None:
            page.slider(key="steps_100").set_value(steps)
            next(each for each in page.button if each.label == "Attack").click().run()
            check(page)
            assert page.table, "no attack was shown"

        visitor()  # Opens TensorFlow and the model.
        first = timed(visitor)
        page = visitor()
        moves = [timed(lambda place=place: move(page, place)) for place in range(1, 8)]
        page = visitor().switch_page("views/attack.py").run()
        compiled = timed(lambda: attack(page, 20))
        again = timed(lambda: attack(page, 19))
        before = memory()
        visitors = [visitor().switch_page("views/attack.py").run() for _ in range(VISITORS - 1)]
        for each in visitors:
            attack(each, 20)
        grown = memory() - before
    print(f"first screen of a visitor, the model loaded: {first:.2f} s (aim: 3)")
    print(f"moving the threshold: {1000 * float(np.median(moves)):.0f} ms (aim: 200)")
    print(f"PGD-20 on a 28×28 image, the first: {compiled:.2f} s, after that {again:.2f} s (aim: 2)")
    print(f"{VISITORS} visitors who attack, beyond one: {grown / 2**20:.0f} MB (aim: 300)")


def make_model(folder: Path) -> None:
    """An untrained run that leaves late."""
    keras.utils.set_random_seed(0)
    model = MultiExitModel.from_backbone(small_cnn((28, 28, 1), 10))
    model.thresholds.assign([2.0, 2.0])
    folder.mkdir(parents=True)
    model.save(folder / MODEL_FILE)
    describe(model, list("0123456789"), "mnist", "0.3", "benchmark").write(folder)


def check(page) -> None:
    """Raises `RuntimeError` if the page shows an error."""
    if page.exception or page.error:
        raise RuntimeError([each.value for each in (*page.exception, *page.error)])


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def memory() -> int:
    """What this process holds now, bytes; Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
