"""What befalls a server under traffic, and whether it answers rightly again."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.soak.network import MODEL, Server, Wire
from benchmarks.soak.tally import LOST, RIGHT, Tally
from rdi_keras.errors import InputError, ServerError
from rdi_keras.serving.client import Client

TIMEOUT, BACK_AFTER = 10.0, 120.0
KILLED = "server killed (SIGKILL), started again"
TERMINATED = "server ended (SIGTERM), started again"
HELD = "server held for 2 s (SIGSTOP)"
CUT = "all connections cut"
EXPORTED = "new version takes over, old one removed"
DAMAGED = "damaged version exported"
# How much a server's memory may grow beside what each version that it loads may leave behind.
MOST_GROWTH, MOST_GROWTH_A_VERSION = 100, 10


@dataclass
class Faults:
    """What is done to the server, one thing after the other; after each it must answer rightly again.

    Attributes:
        tally: what is counted.
        times: begin and end of every time in which the server may be out of reach.
        server: as it runs.
        wires: to it, by transport.
        versions: the folder that it watches.
        models: what is exported, by whether the version's number is odd.
        chance: when, and what.
        images: to ask it whether it is back.
        wrong: what is wrong with an answer for them, or `None`.
        newest: number of the newest version.
        loaded: how many versions it has loaded since its memory was first noted.
        memory: in megabytes, once settled and at the end.
        settled: seconds after which it was first noted.
    """

    tally: Tally
    times: list[list[float]]
    server: Server
    wires: dict[str, Wire]
    versions: Path
    models: dict[bool, Path]
    chance: random.Random
    images: np.ndarray
    wrong: Callable[[object], str | None]
    newest: int = 1
    loaded: int = 0
    memory: list[float | None] = field(default_factory=list)
    settled: float = 0.0

    @property
    def deadly(self) -> dict[str, Callable[[], None]]:
        """After these it is another process, or one that stood still."""
        return {KILLED: self._kill, TERMINATED: self._terminate, HELD: self._hold, **self.harmless}

    @property
    def harmless(self) -> dict[str, Callable[[], None]]:
        """These must not cost a single answer, but for connections that were cut."""
        return {CUT: self._cut, EXPORTED: self._export, DAMAGED: self._export_damaged}

    def until(self, deadline: float, kinds: dict[str, Callable[[], None]], settled: float) -> None:
        """Does these at random, each once before any again; notes memory once settled, and at the end."""
        self.memory, self.loaded, self.settled = [], 0, settled
        measured, waiting = time.monotonic() + settled, list(kinds)
        self.chance.shuffle(waiting)
        while len(waiting) == len(kinds) or time.monotonic() < deadline:
            name = waiting.pop() if waiting else self.chance.choice(list(kinds))
            try:
                kinds[name]()
                self._check_back()
                self.tally.note(name, RIGHT)
            except Exception as error:
                self.tally.note(name, LOST, f"{type(error).__name__}: {error}")
            if time.monotonic() > measured and not self.memory:
                self.memory, self.loaded = [self.server.megabytes], 0
            time.sleep(self.chance.uniform(0.5, 3))
        self.memory.append(self.server.megabytes)

    def tell_memory(self) -> None:
        """Counts it as lost if the server that lives on grew too much."""
        if None in self.memory or len(self.memory) < 2:
            return self.tally.facts.append("the server's memory was not measured")
        first, last = self.memory
        grown, most = last - first, MOST_GROWTH + self.loaded * MOST_GROWTH_A_VERSION
        said = (
            f"{first:.0f} MB after {self.settled:.0f} s, {last:.0f} MB at the end, {self.loaded} versions "
            f"later; up to {most} MB more is not counted as lost"
        )
        self.tally.note("memory of the server that lives on", LOST if grown > most else RIGHT, said)
        return self.tally.facts.append(f"memory of the server that lives on: {said}")

    def end(self) -> None:
        """Ends server and wires."""
        for each in self.wires.values():
            each.close()
        self.server.end()

    def _check_back(self) -> None:
        """Asks until the answer is right, with the newest version; raises if that takes too long."""
        deadline, said = time.monotonic() + BACK_AFTER, None
        with Client(self.wires["grpc"].address, MODEL, timeout=TIMEOUT) as client:
            while time.monotonic() < deadline:
                try:
                    answer = client.predict(self.images)
                    said = self.wrong(answer)
                    if said is None and answer.version[0] == self.newest:
                        return
                    said = said or f"version {answer.version[0]}, not {self.newest}"
                except (ServerError, InputError) as error:
                    said = str(error)
                time.sleep(0.1)
        raise TimeoutError(f"not back after {BACK_AFTER:g} s: {said}")

    def _end(self, number: signal.Signals) -> None:
        fault = [time.monotonic(), np.inf]
        self.times.append(fault)
        self.server.end(number)
        time.sleep(self.chance.uniform(0, 1))
        self.server.start()
        self._check_back()
        fault[1] = time.monotonic()

    def _kill(self) -> None:
        self._end(signal.SIGKILL)

    def _terminate(self) -> None:
        self._end(signal.SIGTERM)

    def _hold(self) -> None:
        fault = [time.monotonic(), np.inf]
        self.times.append(fault)
        self.server.hold(True)
        time.sleep(2)
        self.server.hold(False)
        self._check_back()
        fault[1] = time.monotonic()

    def _cut(self) -> None:
        self.times.append([time.monotonic(), time.monotonic()])
        for wire in self.wires.values():
            wire.cut()

    def _export(self) -> None:
        """As an export does it: written aside, then renamed. The old one goes when the new one answers."""
        number = self.newest + 1
        shutil.copytree(self.models[number % 2 == 1], self.versions / "writing")
        (self.versions / "writing").rename(self.versions / str(number))
        self.newest, self.loaded = number, self.loaded + 1
        self._check_back()
        shutil.rmtree(self.versions / str(number - 1))

    def _export_damaged(self) -> None:
        """It must not be served, and must not disturb the one that is."""
        number = self.newest + 1
        shutil.copytree(self.models[True], self.versions / "writing")
        file = self.versions / "writing" / "saved_model.pb"
        file.write_bytes(file.read_bytes()[: self.chance.randrange(file.stat().st_size // 2)])
        (self.versions / "writing").rename(self.versions / str(number))
        with Client(self.wires["grpc"].address, MODEL, timeout=TIMEOUT) as client:
            deadline = time.monotonic() + BACK_AFTER
            while not any(each.version == number and each.error for each in client.state()):
                if time.monotonic() > deadline:
                    raise TimeoutError("the damaged version was not refused")
                time.sleep(0.1)
        shutil.rmtree(self.versions / str(number))
