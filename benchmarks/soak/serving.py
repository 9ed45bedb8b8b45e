"""A server under traffic of clean, adversarial and slowed-down images, while faults befall it.

Odd versions are the model that ships, even ones another model: an answer tells whose it is.
"""

import random
import shutil
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

import rdi_keras as rdi
from benchmarks.soak.faults import Faults
from benchmarks.soak.fitting import ROOT, Whole
from benchmarks.soak.known import Known
from benchmarks.soak.network import MODEL, Server, Wire
from benchmarks.soak.tally import LOST, REFUSED, RIGHT, Tally
from rdi_keras.errors import ServerError
from rdi_keras.serving.client import Client

SHIPPED = ROOT / "saved_models" / "digits" / "1"
IMAGES, MOST_IN_A_REQUEST = 128, 16
TIMEOUT, HUNG_AFTER = 10.0, 25.0
NO_TIME = 0.0005
TRANSPORTS = ("grpc", "grpc", "rest")
DEADLINE = "requests with no time to answer (0.5 ms)"


@dataclass
class Stage:
    """What all threads share.

    Attributes:
        knowns: what is right, by whether the version's number is odd.
        rows: of the images, by kind of traffic.
        address: by transport.
        faults: begin and end of every time in which a server may be out of reach.
        done: set when traffic is to end.
    """

    knowns: dict[bool, Known]
    rows: dict[str, np.ndarray]
    address: dict[str, str]
    faults: list[list[float]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def out_of_reach(self, begun: float) -> bool:
        """Whether a fault overlaps with the time from `begun` to now."""
        # Connections that were lost come back within a second.
        return any(start <= time.monotonic() and end + 2 >= begun for start, end in list(self.faults))


def run(tally: Tally, seconds: float, chance: random.Random, folder: Path, whole: Whole) -> None:
    """Half of the time with a server that is killed, half with one that lives on."""
    versions = folder / MODEL
    shutil.copytree(SHIPPED, versions / "1")
    models = {True: SHIPPED, False: whole.fit.saved_models / "1"}
    server = Server(versions)
    wires = {name: Wire(port) for name, port in server.ports.items()}
    stage = _staged(models, {name: wire.address for name, wire in wires.items()})
    right = partial(_wrong, stage, rows=stage.rows["clean"][:4], how={})
    images = stage.knowns[True].images[stage.rows["clean"][:4]]
    faults = Faults(tally, stage.faults, server, wires, versions, models, chance, images, right)
    threads = [
        threading.Thread(target=_traffic, args=(tally, stage, transport, random.Random(chance.random())))
        for transport in TRANSPORTS
    ]
    threads.append(threading.Thread(target=_hurried, args=(tally, stage)))
    begun = time.monotonic()
    for each in threads:
        each.start()
    try:
        for kinds in (faults.deadly, faults.harmless):
            faults.until(time.monotonic() + seconds / 2, kinds, settled=min(60, seconds / 6))
    finally:
        stage.done.set()
        for each in threads:
            each.join(timeout=2 * HUNG_AFTER)
            if each.is_alive():
                tally.note("threads that ask", LOST, "one of them hangs")
        faults.end()
    tally.facts.append(f"{(time.monotonic() - begun) / 60:.1f} minutes of traffic by {len(threads)} threads")
    faults.tell_memory()


def _staged(models: dict[bool, Path], address: dict[str, str]) -> Stage:
    """Clean held-out images, and the same attacked for their labels and for their compute."""
    shipped = rdi.Predictor(models[True], engine="tensorflow")
    samples = rdi.data.load("digits").calibration.first(IMAGES)
    solver = rdi.attacks.pgd(shipped.metadata.epsilon, num_steps=20)
    traffics = {"clean": samples.images}
    for name, goal in (("adversarial", "exit_aware"), ("slowdown", "slowdown")):
        attack = rdi.attacks.Attack(rdi.attacks.objective(goal), solver)
        traffics[name] = attack(shipped, samples.images, samples.labels, shipped.thresholds).numpy()
    images = np.concatenate(list(traffics.values()))
    rows = np.split(np.arange(len(images)), len(traffics))
    knowns = {odd: Known.of(path, images) for odd, path in models.items()}
    return Stage(knowns, dict(zip(traffics, rows, strict=True)), address)


def _request(stage: Stage, chance: random.Random) -> tuple[str, np.ndarray, dict]:
    """Kind of traffic, rows of the images, and how to decide where they leave."""
    kind = chance.choice(list(stage.rows))
    rows = np.array(chance.choices(stage.rows[kind], k=chance.randint(1, MOST_IN_A_REQUEST)))
    how = chance.choice(
        [
            {},
            {"thresholds": [chance.uniform(0, 2), chance.uniform(0, 2)]},
            {"thresholds": np.array([[chance.uniform(0, 2)] * 2 for _ in rows])},
            {"budget": chance.uniform(0, 1.2)},
            {"budget": np.array([chance.uniform(0, 1.2) for _ in rows])},
        ]
    )
    return kind, rows, how


def _wrong(stage: Stage, answer, rows: np.ndarray, how: dict) -> str | None:
    """What is wrong with an answer; over REST nobody says which model gave it, so either's will do."""
    version = int(answer.version[0])
    knowns = list(stage.knowns.values()) if not version else [stage.knowns[version % 2 == 1]]
    found = [known.wrong(answer, rows, known.limits(len(rows), **how)) for known in knowns]
    return None if None in found else "; ".join(found)


def _traffic(tally: Tally, stage: Stage, transport: str, chance: random.Random) -> None:
    """Asks again and again, and counts answers; a server out of reach may refuse, nothing else may."""
    with Client(stage.address[transport], MODEL, transport=transport, timeout=TIMEOUT) as client:
        while not stage.done.is_set():
            kind, rows, how = _request(stage, chance)
            kind, begun = f"{kind} images: requests", time.monotonic()
            try:
                wrong = _wrong(stage, client.predict(stage.knowns[True].images[rows], **how), rows, how)
                tally.note(kind, LOST if wrong else RIGHT, wrong or "")
            except ServerError as error:
                out_of_reach = stage.out_of_reach(begun)
                tally.note(kind, REFUSED if out_of_reach else LOST, f"without a fault: {error}")
            except Exception as error:
                tally.note(kind, LOST, f"{type(error).__name__}: {error}")
            if time.monotonic() - begun > HUNG_AFTER:
                tally.note(kind, LOST, f"{time.monotonic() - begun:.0f} s for a request of {TIMEOUT:g} s")


def _hurried(tally: Tally, stage: Stage) -> None:
    """Asks for answers at once: that is refused in words, or answered rightly, and harms nobody else."""
    rows = stage.rows["clean"][:1]
    with Client(stage.address["grpc"], MODEL, timeout=NO_TIME) as client:
        while not stage.done.wait(0.05):
            begun = time.monotonic()
            try:
                wrong = _wrong(stage, client.predict(stage.knowns[True].images[rows]), rows, {})
                tally.note(DEADLINE, LOST if wrong else RIGHT, wrong or "")
            except ServerError:
                tally.note(DEADLINE, REFUSED)
            except Exception as error:
                tally.note(DEADLINE, LOST, f"{type(error).__name__}: {error}")
            if time.monotonic() - begun > HUNG_AFTER:
                tally.note(DEADLINE, LOST, f"took {time.monotonic() - begun:.0f} s")
