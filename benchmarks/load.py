"""Throughput and latency of the loopback server under clean, adversarial and slowdown traffic.

    python benchmarks/load.py saved_models/digits --seconds 10 --requests 2000 --batch 1

Needs the extra `load` (locust). A server in a process of its own, on 127.0.0.1 and nowhere else; users who
each send their next request when the last is answered, for as many seconds or requests as are allowed,
whichever is first. Adaptive (`serving_default`) against `all_exits`, which runs every exit for everybody.
Rows take turns, so that what else the machine does falls on all alike; a first turn warms up and does not
count. The loopback server batches nothing across requests: what comes out compares signatures and traffic,
and is not what TensorFlow Serving would do.
"""

import argparse
import contextlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import locust  # Exchanges Python's sockets and threads for gevent's, so TensorFlow comes after it.
import numpy as np
from gevent.event import Event
from grpc.experimental import gevent as grpc_gevent
from locust.env import Environment

import rdi_keras as rdi
from rdi_keras.names import ALL_EXITS, SERVING_DEFAULT
from rdi_keras.serving.client import Client

grpc_gevent.init_gevent()  # Else a user who waits for an answer would stop all others.

SIGNATURES = {SERVING_DEFAULT: Client.predict, ALL_EXITS: Client.exits}
MOST_SECONDS, MOST_REQUESTS, MOST_USERS = 120, 20_000, 64


class Tally:
    """What came of the requests of one row, over its turns."""

    def __init__(self):
        self.seconds: list[float] = []  # Of each request that was answered.
        self.errors: list[Exception] = []
        self.spent = 0.0

    def columns(self) -> str:
        """The figures of a table's row."""
        if not self.seconds:
            return f"0 | – | – | – | – | {len(self.errors)}"
        times = " | ".join(f"{1000 * each:.2f}" for each in np.percentile(self.seconds, [50, 95, 99]))
        rate = len(self.seconds) / self.spent
        return f"{len(self.seconds)} | {rate:.1f} | {times} | {len(self.errors)}"


def traffics(predictor: rdi.Predictor, number: int) -> dict[str, np.ndarray]:
    """Clean held-out images, and the same attacked for their labels and for their compute."""
    samples = rdi.data.load(predictor.metadata.dataset).calibration.first(number)
    solver = rdi.attacks.pgd(predictor.metadata.epsilon, num_steps=20)
    attacked = {
        name: rdi.attacks.Attack(rdi.attacks.objective(goal), solver)(
            predictor, samples.images, samples.labels, predictor.thresholds
        ).numpy()
        for name, goal in (("adversarial", "exit_aware"), ("slowdown", "slowdown"))
    }
    return {"clean": samples.images, **attacked}


@contextlib.contextmanager
def loopback_server(folder: str) -> Iterator[str]:
    """The address of a server in another process, which ends with the block."""
    command = [sys.executable, "-m", "rdi_keras.cli.loopback", folder, "--model", "load"]
    command += ["--port", "0", "--rest_port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline().split()
            if not said:
                sys.exit("error: The server did not start; see above")
            yield said[2].rstrip(",")
        finally:
            process.terminate()


def run(
    row: Tally, address: str, ask: Callable, batches: list, users: int, seconds: float, most: int
) -> None:
    """Adds a turn to a row: users ask until the time is up or there were enough requests."""
    enough, noted, began, ended = Event(), 0, math.inf, 0.0

    def note(start_time: float, exception: Exception | None, context: dict, **_) -> None:
        nonlocal noted, began, ended
        if enough.is_set():
            return
        noted, began, ended = noted + 1, min(began, start_time), context["ended"]
        if exception is None:
            row.seconds.append(ended - start_time)
        else:
            row.errors.append(exception)
        if noted >= most:
            enough.set()

    class Asker(locust.User):
        wait_time = locust.constant(0)

        def on_start(self):
            self.client = Client(address, "load", timeout=30, retries=0)
            self.client.signatures()
            self.turn = 0

        def on_stop(self):
            self.client.close()

        @locust.task
        def next_batch(self):
            self.turn = (self.turn + 1) % len(batches)
            start, error = time.perf_counter(), None
            try:
                ask(self.client, batches[self.turn])
            except Exception as raised:  # Counted, whatever it is.
                error = raised
            end = time.perf_counter()
            self.environment.events.request.fire(
                request_type="grpc",
                name=ask.__name__,
                start_time=start,
                response_time=1000 * (end - start),
                response_length=0,
                exception=error,
                context={"ended": end},
            )

    environment = Environment(user_classes=[Asker])
    environment.events.request.add_listener(note)
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    enough.wait(timeout=seconds)
    row.spent += ended - began if noted else seconds
    enough.set()  # What is still under way does not count.
    runner.quit()


def bounded(most: float, kind: type = int) -> Callable[[str], float]:
    """A type for argparse: a number above 0 and at most `most`."""

    def parse(text: str):
        value = kind(text)
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"must be above 0 and at most {most}. Received: {text}")
        return value

    return parse


def main() -> None:
    """Prints a Markdown table with a row per traffic and signature."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default="saved_models/digits", help="of versions")
    parser.add_argument("--seconds", type=bounded(MOST_SECONDS, float), default=10, help="per row")
    parser.add_argument("--requests", type=bounded(MOST_REQUESTS), default=2000, help="per row")
    parser.add_argument("--turns", type=bounded(20), default=5, help="that a row's time is cut into")
    parser.add_argument("--users", type=bounded(MOST_USERS), default=2)
    parser.add_argument("--batch", type=bounded(256), default=1, help="images in a request")
    parser.add_argument("--images", type=bounded(10_000), default=256, help="how many different ones")
    given = parser.parse_args()
    predictor = rdi.Predictor(given.folder, engine="tensorflow")
    images = traffics(predictor, given.images)
    rows = {(traffic, signature): Tally() for traffic in images for signature in SIGNATURES}
    with loopback_server(given.folder) as address:
        for turn in range(given.turns + 1):
            for (traffic, signature), row in rows.items():
                each = images[traffic]
                batches = [each[start : start + given.batch] for start in range(0, len(each), given.batch)]
                run(
                    row if turn else Tally(),
                    address,
                    SIGNATURES[signature],
                    batches,
                    given.users,
                    given.seconds / given.turns,
                    math.ceil(given.requests / given.turns),
                )
    print(f"{predictor.path}: {given.users} users, {given.batch} images a request, gRPC\n")
    print(
        "| traffic | signature | MACs an image | requests | requests/s | p50 ms | p95 ms | p99 ms | errors |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for (traffic, signature), row in rows.items():
        everybody = predictor.metadata.macs_per_exit[-1]
        adaptive = predictor.predict(images[traffic]).macs.mean()
        macs = adaptive if signature == SERVING_DEFAULT else everybody
        print(f"| {traffic} | {signature} | {macs:,.0f} | {row.columns()} |")
        for error in row.errors[:1]:
            print(f"first error: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
