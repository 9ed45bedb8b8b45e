"""Requests to a server that no client would send."""

import http.client
import json
import random

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks.soak.damage import mutated, odd_json
from benchmarks.soak.known import Known
from benchmarks.soak.network import HOST, MODEL, Server
from benchmarks.soak.tally import LOST, REFUSED, RIGHT, Tally

ANSWERED_WITHIN = 30.0
SHAPES = ((2, 2), (2, 2), (), (0,), (2,), (2, 2, 2), (5, 2))
SENDERS_FAULT = (
    *(grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION),
    grpc.StatusCode.OUT_OF_RANGE,
)


def ask_rest(tally: Tally, known: Known, server: Server, chance: random.Random, name: str) -> None:
    """A request as nobody's client would send it: answered in JSON, or refused with 4xx and words."""
    text = json.dumps({"instances": known.images[:2].tolist(), "signature_name": "serving_default"})
    body = odd_json(text, chance)
    path = f"/v1/models/{MODEL}:predict"
    if chance.random() < 0.3:
        path = chance.choice(
            (f"/v1/models/{MODEL}/versions/{'9' * 5000}:predict", "/", "/v1/models/%ff:predict")
        )
    headers = {"Content-Length": chance.choice(("x", "-1"))} if chance.random() < 0.1 else {}
    method = chance.choice(("POST", "POST", "POST", "GET", "PUT"))
    said = f"{method} {path[:60]} {headers} … {body[-150:]!r}"
    connection = http.client.HTTPConnection(HOST, server.ports["rest"], timeout=ANSWERED_WITHIN)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        status, answer = response.status, response.read()
    except Exception as error:
        return tally.note(name, LOST, f"{type(error).__name__}: {error}: {said}")
    finally:
        connection.close()
    if 400 <= status < 500 or (status == 501 and method == "PUT"):
        return tally.note(name, REFUSED if answer else LOST, f"{said}: {status} without a word")
    try:
        found = json.loads(answer)
    except ValueError:
        return tally.note(name, LOST, f"{said}: {status} without JSON: {answer[:200]!r}")
    fine = status == 200 and isinstance(found.get("predictions", found.get("outputs")), list | dict)
    return tally.note(name, RIGHT if fine else LOST, f"{said}: {status} {answer[:200]!r}")


def ask_grpc(tally: Tally, known: Known, address: str, chance: random.Random, name: str) -> None:
    """A request as nobody's client would send it: answered, or refused with a reason that is the sender's."""
    asked = predict_pb2.PredictRequest()
    signature = chance.choice(("adaptive", "all_exits", "x"))
    asked.model_spec.name, asked.model_spec.signature_name = MODEL, signature
    images = known.images[:2].astype(chance.choice((np.float32, np.float32, np.int32, np.complex64)))
    inputs = {"images": chance.choice((images, images, images.reshape(-1, 1)))}
    if signature == "adaptive":
        inputs["thresholds"] = np.zeros(chance.choice(SHAPES), np.float32)
    for key, value in inputs.items():
        asked.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    data = asked.SerializeToString()
    data = mutated(data, chance) if chance.random() < 0.7 else data
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(
                data, timeout=ANSWERED_WITHIN
            )
        except grpc.RpcError as error:
            # What is no request at all never reaches the server's own code.
            fine = error.code() in SENDERS_FAULT or "deserializing" in error.details()
            return tally.note(name, REFUSED if fine else LOST, f"{error.code()}: {error.details()}: {data!r}")
    return tally.note(name, RIGHT)
