"""Asks a TensorFlow Serving server as one asks a `Predictor`: same arguments, same answers, same checks."""

import random
import re
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeVar

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from rdi_keras.checks import check_batch_size, check_budget, check_sample_thresholds
from rdi_keras.errors import InputError, ServerError
from rdi_keras.names import (
    ADAPTIVE,
    ALL_EXITS,
    BUDGET,
    IMAGE_BYTES,
    IMAGE_FILES,
    IMAGES,
    SERVING_DEFAULT,
    THRESHOLDS,
    WITH_BUDGET,
    exit_names,
)
from rdi_keras.serving.client_inputs import check_inputs
from rdi_keras.serving.predictor import Prediction
from rdi_keras.serving.transports import (
    CallFailed,
    GrpcTransport,
    RestTransport,
    Signature,
    Transport,
    VersionState,
)

T = TypeVar("T")

TRANSPORTS: dict[str, type[Transport]] = {"grpc": GrpcTransport, "rest": RestTransport}
FIRST_PAUSE = 0.1  # Seconds before the first retry; each further one waits twice as long.

_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
}


@dataclass(frozen=True)
class ServedPrediction(Prediction):
    """A `Prediction`, and who made it.

    Attributes:
        version: int64 `[B]`, the version that answered each image. REST does not say it: there it is the
            version that was asked for, or 0.
    """

    version: np.ndarray


class Client:
    """A model on a TensorFlow Serving server, over gRPC or REST.

    Images, thresholds and budgets are checked here against what the model says it takes. That is asked for
    once, and again before anything is refused, as a newer version may take something else. Threads may share
    a client.

    Args:
        address: `host:port`; TensorFlow Serving's ports are 8500 for gRPC and 8501 for REST.
        model: its name on the server.
        version: a version's number; `None` for the newest, so that a new one takes over by itself.
        transport: `"grpc"` or `"rest"`.
        timeout: seconds for one request, its retries included.
        retries: how often a request is sent again if the server cannot be reached or has no room, with
            pauses of about 0.1, 0.2, 0.4 … seconds. No other failure is retried.

    Raises:
        InputError: here if an argument is none of these; by methods if images, thresholds, model, version or
            signature do not fit what is served.
        ServerError: by methods if the server is down, too slow, or fails.

    Examples:
        >>> with Client("localhost:8500", "digits") as client:
        ...     client.predict(images).label
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        transport: str = "grpc",
        timeout: float = 10.0,
        retries: int = 3,
    ):
        if not re.fullmatch(r"[^/\s]+:\d+", address):
            raise InputError(f"An address is host:port, such as localhost:8500. Received: {address!r}")
        if transport not in TRANSPORTS:
            raise InputError(f"Unknown transport {transport!r}. Allowed: {', '.join(TRANSPORTS)}")
        if not timeout > 0 or retries < 0:
            raise InputError(
                "timeout must be above 0 seconds and retries at least 0. "
                f"Received: timeout={timeout}, retries={retries}"
            )
        self.address, self.model, self.version = address, model, version
        self.timeout, self.retries = timeout, retries
        self._transport = TRANSPORTS[transport](address, model, version)
        self._signatures: dict[str, Signature] | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connection back."""
        self._transport.close()

    def predict(
        self,
        images: ArrayLike,
        thresholds: ArrayLike | None = None,
        batch_size: int = 256,
        budget: ArrayLike | None = None,
    ) -> ServedPrediction:
        """Answers for images, each from the exit where it leaves.

        Args:
            images: float `[B, H, W, C]` in [0, 1].
            thresholds: entropies in nats for this call only, `[N-1]`, or `[B, N-1]` per sample.
            batch_size: how many images one request holds; the server's batching parameters set the most.
            budget: instead, mean compute as a fraction of the backbone's MACs, one number or `[B]`.

        Raises:
            InputError: if images, thresholds or budget do not fit the model, both limits are given, or the
                model has no signature for them.
            ServerError: if the server is down, too slow, or fails.
        """
        if thresholds is not None and budget is not None:
            raise InputError("Give thresholds or a budget, not both. Received: both")
        number = len(images) if isinstance(images, Sized) else 0
        if thresholds is not None:
            limits = self._accepted(
                ALL_EXITS, lambda exits: check_sample_thresholds(thresholds, number, len(exits.outputs))
            )
            name, limit = ADAPTIVE, {THRESHOLDS: limits}
        elif budget is not None:
            name, limit = WITH_BUDGET, {BUDGET: check_budget(budget, number)}
        else:
            name, limit = SERVING_DEFAULT, {}
        return _prediction(*self._answers(name, {IMAGES: images, **limit}, batch_size))

    def predict_files(self, files: Sequence[bytes], batch_size: int = 256) -> ServedPrediction:
        """As `predict`, for the contents of B PNG or JPEG files, which the model fits to its input."""
        return _prediction(*self._answers(IMAGE_FILES, {IMAGE_BYTES: files}, batch_size))

    def exits(self, images: ArrayLike, batch_size: int = 256) -> dict[str, np.ndarray]:
        """Logits float32 `[B, C]` of every exit, by name, for images as in `predict`."""
        logits, _ = self._answers(ALL_EXITS, {IMAGES: images}, batch_size)
        return {name: logits[name] for name in exit_names(len(logits))}

    def ask(
        self, signature: str, inputs: dict[str, ArrayLike], batch_size: int = 256
    ) -> dict[str, np.ndarray]:
        """Outputs of any signature by name, for inputs by name that share dimension 0.

        Raises:
            InputError: as `predict`.
            ServerError: likewise.
        """
        return self._answers(signature, inputs, batch_size)[0]

    def signatures(self) -> dict[str, Signature]:
        """What the model takes and gives now, by signature."""
        self._signatures = found = self._call(self._transport.signatures)
        return found

    def state(self) -> list[VersionState]:
        """The versions that the server knows, the newest first.

        Raises:
            InputError: if it knows none.
            ServerError: if the server is down, too slow, or fails.
        """
        return self._call(self._transport.state)

    def _answers(
        self, name: str, inputs: dict[str, ArrayLike], batch_size: int
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Outputs by name, and the version that answered, `[B]`."""
        check_batch_size(batch_size)
        for _ in range(2):  # A newer version may give something else than the one that was asked for this.
            signature, arrays = self._accepted(name, lambda each: (each, check_inputs(name, each, inputs)))
            batches, versions = self._batches(name, signature, arrays, batch_size)
            if all(_fits(each, signature) for each in batches):
                joined = {key: np.concatenate([each[key] for each in batches]) for key in signature.outputs}
                return joined, np.concatenate(versions)
            self.signatures()
        raise ServerError(f"{self._who()} changed while it was asked. Ask again")

    def _batches(
        self, name: str, signature: Signature, arrays: dict[str, np.ndarray], batch_size: int
    ) -> tuple[list[dict[str, np.ndarray]], list[np.ndarray]]:
        number = len(next(iter(arrays.values())))
        # No image needs no answer, only its shapes; servers refuse empty batches.
        batches = [{key: _no_rows(spec) for key, spec in signature.outputs.items()}]
        versions = [np.zeros(0, np.int64)]
        for start in range(0, number, batch_size):
            batch = {key: value[start : start + batch_size] for key, value in arrays.items()}
            outputs, version = self._call(partial(self._transport.predict, name, signature, batch))
            batches.append(outputs)
            versions.append(np.full(min(batch_size, number - start), version, np.int64))
        return batches, versions

    def _accepted(self, name: str, check: Callable[[Signature], T]) -> T:
        """What `check` makes of the signature; a refusal stands only against what is served now."""
        if self._signatures is not None:
            try:
                return check(self._signature(name, self._signatures))
            except InputError:
                pass
        return check(self._signature(name, self.signatures()))

    def _signature(self, name: str, there: dict[str, Signature]) -> Signature:
        if name not in there:
            raise InputError(
                f"{self._who()} has no signature {name!r}. It has: {', '.join(sorted(there))}. "
                "Ask for one of them, or export the model again with training/export.py"
            )
        return there[name]

    def _call(self, call: Callable[[float], T]) -> T:
        """`call(seconds left)`, again while the server cannot be reached and time and retries last."""
        ends = time.monotonic() + self.timeout
        attempt = 1
        while True:
            try:
                return call(max(ends - time.monotonic(), 0.001))
            except CallFailed as failed:
                pause = FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1)
                given_up = attempt > self.retries or time.monotonic() + pause >= ends
                if failed.code is not grpc.StatusCode.UNAVAILABLE or given_up:
                    raise self._explained(failed, attempt) from None
            time.sleep(pause)
            attempt += 1

    def _explained(self, failed: CallFailed, attempts: int) -> Exception:
        if failed.code is grpc.StatusCode.NOT_FOUND:
            return InputError(f"{self._who()} is not there: {failed.detail}. {self._versions_there()}")
        if failed.code in _REFUSALS:
            return InputError(f"{self._who()} refused the request: {failed.detail}")
        if failed.code is grpc.StatusCode.UNAVAILABLE:
            return ServerError(
                f"No answer from {self.address} in {attempts} tries: {failed.detail}. Start the server "
                "(`make serve`), or check address and port"
            )
        if failed.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServerError(
                f"No answer from {self.address} within {self.timeout:g} s. Send fewer images at a time "
                "(batch_size), or allow more time (timeout)"
            )
        return ServerError(
            f"The server at {self.address} failed: {failed}. Look into its log, and check the port: gRPC and "
            "REST have one each"
        )

    def _versions_there(self) -> str:
        asked = type(self._transport)(self.address, self.model, None)
        try:
            states = asked.state(min(self.timeout, 1.0))
        except CallFailed:
            return "Check the model's name"
        finally:
            asked.close()
        listed = ", ".join(f"{each.version} ({each.state})" for each in states)
        return f"Versions there: {listed}. Ask for an AVAILABLE one, or name none for the newest"

    def _who(self) -> str:
        version = "" if self.version is None else f", version {self.version},"
        return f"Model {self.model!r}{version} at {self.address}"


def _fits(outputs: dict[str, np.ndarray], signature: Signature) -> bool:
    return set(outputs) == set(signature.outputs) and all(
        spec.shape[1:].is_compatible_with(outputs[key].shape[1:]) for key, spec in signature.outputs.items()
    )


def _no_rows(spec: tf.TensorSpec) -> np.ndarray:
    return np.zeros([0, *(size or 0 for size in spec.shape[1:])], spec.dtype.as_numpy_dtype)


def _prediction(outputs: dict[str, np.ndarray], version: np.ndarray) -> ServedPrediction:
    return ServedPrediction(**{each.name: outputs[each.name] for each in fields(Prediction)}, version=version)
