"""Requests that TensorFlow Serving replays when it loads a model, so that no user waits for it."""

import io
from pathlib import Path

import numpy as np
import tensorflow as tf

from rdi_keras.metadata import Metadata
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
)

WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")


def write_warmup_requests(folder: Path, metadata: Metadata) -> None:
    """Writes one request of one image per signature into the version's folder."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    image = np.zeros([1, *metadata.input_shape], np.float32)
    thresholds = np.asarray([metadata.thresholds], np.float32)
    requests = {
        SERVING_DEFAULT: {IMAGES: image},
        ADAPTIVE: {IMAGES: image, THRESHOLDS: thresholds},
        ALL_EXITS: {IMAGES: image},
        IMAGE_FILES: {IMAGE_BYTES: np.asarray([_png(image[0])])},
    }
    if metadata.budget_table is not None:
        requests[WITH_BUDGET] = {IMAGES: image, BUDGET: np.ones([1], np.float32)}
    path = folder / WARMUP_FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    pixels = (image * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
