"""Where a model runs: in this process, or on a TensorFlow Serving server."""

import os
from dataclasses import dataclass

import numpy as np

from rdi_keras.errors import InputError, ServerError
from rdi_keras.metadata import Metadata
from rdi_keras.serving import Client

# Visitors choose the address: others than this machine's must be allowed by whoever starts the app.
ADDRESSES_VARIABLE = "RDI_SERVING_ADDRESSES"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
TIMEOUT = 5.0


@dataclass(frozen=True)
class Served:
    """A model on a server, asked like a `Predictor` as far as decisions need it.

    Attributes:
        client: of the server.
        metadata: of the same model in this process: a server tells no class names.
    """

    client: Client
    metadata: Metadata

    def exits(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Logits float32 `[B, C]` of every exit by name.

        Raises:
            InputError: if the server's model is of another shape.
            ServerError: if the server is down, too slow, or fails.
        """
        found = self.client.exits(images)
        expected = (self.metadata.num_exits, len(self.metadata.class_names))
        received = (len(found), next(iter(found.values())).shape[-1] if found else 0)
        if received != expected:
            raise InputError(
                f"The server's model has {received[0]} exits and {received[1]} classes; the one chosen here "
                f"has {expected[0]} and {expected[1]}. Choose the same model in the sidebar"
            )
        return found


def served(address: str, name: str, metadata: Metadata) -> Served:
    """A model on a server.

    Args:
        address: `host:port` of TensorFlow Serving's gRPC.
        name: of the model there.
        metadata: of the same model here.

    Raises:
        InputError: if the address is none, or not allowed.
    """
    check_allowed(address)
    return Served(Client(address, name, timeout=TIMEOUT, retries=1), metadata)


def check_allowed(address: str) -> None:
    """Raises `InputError` for an address that this app must not talk to."""
    host = address.rpartition(":")[0]
    allowed = [each.strip() for each in os.environ.get(ADDRESSES_VARIABLE, "").split(",") if each.strip()]
    if host not in LOOPBACK and address not in allowed:
        raise InputError(
            f"This app asks servers on its own machine (localhost:8500) only. Received: {address!r}. Whoever "
            f"starts the app can allow more: {ADDRESSES_VARIABLE}=host:port,host:port"
        )


def state_of(model: Served) -> str:
    """What the server says of the model, in a line.

    Raises:
        InputError, ServerError: as `Client.state`.
    """
    states = ", ".join(f"version {each.version} is {each.state}" for each in model.client.state())
    return f"{model.client.address} serves {model.client.model}: {states}"


__all__ = ["ADDRESSES_VARIABLE", "InputError", "Served", "ServerError", "check_allowed", "served", "state_of"]
