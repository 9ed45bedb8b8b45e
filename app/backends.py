"""Where a model runs: in this process, or on a TensorFlow Serving server."""

import os
from dataclasses import dataclass

import numpy as np

from rdi_keras.errors import InputError
from rdi_keras.metadata import Metadata
from rdi_keras.serving import Client

# Visitors choose the address: others than this machine's must be allowed by whoever starts the app.
ADDRESSES_VARIABLE = "RDI_SERVING_ADDRESSES"
DEFAULT_ADDRESSES = ("localhost:8500", "127.0.0.1:8500", "[::1]:8500")
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


def client(address: str, name: str) -> Client:
    """Asks for a model on a server.

    Args:
        address: `host:port` of TensorFlow Serving's gRPC.
        name: of the model there.

    Raises:
        InputError: if the address is none.
    """
    return Client(address, name, timeout=TIMEOUT, retries=1)


def check_allowed(address: str) -> None:
    """Raises `InputError` for an address that this app must not talk to."""
    allowed = [each.strip() for each in os.environ.get(ADDRESSES_VARIABLE, "").split(",") if each.strip()]
    if address not in (*DEFAULT_ADDRESSES, *allowed):
        raise InputError(
            f"This app asks localhost:8500 on its own machine and no other server. Received: {address!r}. "
            f"Whoever starts the app can allow more: {ADDRESSES_VARIABLE}=host:port,host:port"
        )


def state_of(model: Served) -> str:
    """What the server says of the model, in a line.

    Raises:
        InputError, ServerError: as `Client.state`.
    """
    states = ", ".join(f"version {each.version} is {each.state}" for each in model.client.state())
    return f"{model.client.address} serves {model.client.model}: {states}"
