"""A server in a process of its own, and a wire to it that can be cut."""

import atexit
import contextlib
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from benchmarks.soak.fitting import start

HOST = "127.0.0.1"
MODEL = "soak"


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server((HOST, 0)) as found:
        return found.getsockname()[1]


class Server:
    """`rdi_keras.cli.loopback`, which may be killed, held and started again on the same ports.

    Args:
        folder: of versions.
    """

    def __init__(self, folder: Path):
        self.ports = {"grpc": free_port(), "rest": free_port()}
        ports = [f"--port={self.ports['grpc']}", f"--rest_port={self.ports['rest']}"]
        module = [sys.executable, "-m", "rdi_keras.cli.loopback"]
        self._command = [*module, str(folder), f"--model={MODEL}", *ports]
        self.start()

    def start(self) -> None:
        """Returns when it answers."""
        self._process = start(self._command)
        atexit.register(self._process.kill)
        said = ""
        for line in self._process.stdout:
            said += line
            if line.startswith(f"{MODEL}: gRPC"):
                break
        else:
            raise RuntimeError(f"The server did not start: {said}")
        # Else it would stop at a full pipe.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal that ends it, and waits."""
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(number)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def hold(self, held: bool) -> None:
        """Stops the process where it stands, or lets it go on."""
        self._process.send_signal(signal.SIGSTOP if held else signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def megabytes(self) -> float | None:
        """Of memory that it holds; `None` where the system does not tell."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        return None


class Wire:
    """Passes bytes between a port of its own and another one, until it is cut.

    Args:
        port: where the bytes go.

    Attributes:
        address: where clients connect.
    """

    def __init__(self, port: int):
        self._port, self._open, self._lock = port, set(), threading.Lock()
        self._listening = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Breaks all connections, wherever they are; how many there were."""
        with self._lock:
            broken, self._open = self._open, set()
        for each in broken:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        return len(broken) // 2

    def close(self) -> None:
        """Takes no more connections, and breaks those there are."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:  # Closed.
                return
            try:
                far = socket.create_connection((HOST, self._port), timeout=5)
            except OSError:  # Nobody listens: as if the server itself had refused.
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        with self._lock:
            self._open -= {source, sink}
