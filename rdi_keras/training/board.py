"""What TensorBoard shows of a training."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from rdi_keras.data import Split
from rdi_keras.inference import EntropyPolicy
from rdi_keras.names import exit_names
from rdi_keras.training.calibrating import logits_of

SHOWN = 8  # Images.


class TrainingBoard(keras.callbacks.Callback):
    """Writes every epoch's logs, thresholds, exit shares and learning rate, and some attacked images.

    Scalars are named `train/…`, `held_out/…`, `threshold/exit_k`, `exit_share/exit_k` and `learning_rate`;
    steps are epochs, from 1. Images: clean ones above, the same under the training attack below.

    Args:
        folder: of the event files.
        held_out: whose exit shares are counted, clean, and whose first images are shown.
        say: is told where nothing can be written; training goes on.
    """

    def __init__(self, folder: Path, held_out: Split, say: Callable[[str], None] = print):
        super().__init__()
        self._folder, self._held_out, self._say = folder, held_out, say
        self._attacked: Callable | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._writer = tf.summary.create_file_writer(str(self._folder))
        if self.model.attack is not None:
            # Compiled once. The number of no step of training.
            self._attacked = tf.function(
                lambda images, labels: self.model.attacked(images, labels, -2), autograph=False
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        scalars = {
            f"held_out/{name.removeprefix('val_')}" if name.startswith("val_") else f"train/{name}": value
            for name, value in (logs or {}).items()
        }
        thresholds = self.model.thresholds.numpy()
        logits = logits_of(self.model, self._held_out.images)
        _, exits = EntropyPolicy(thresholds).answer(list(logits.swapaxes(0, 1)))
        exits = np.asarray(exits)
        names = exit_names(self.model.num_exits)
        scalars |= {f"threshold/{name}": value for name, value in zip(names, thresholds, strict=False)}
        scalars |= {f"exit_share/{name}": np.mean(exits == k) for k, name in enumerate(names, start=1)}
        scalars["learning_rate"] = float(self.model.optimizer.learning_rate)
        try:
            self._write(epoch + 1, scalars)
        except (OSError, tf.errors.OpError) as error:
            self._say(f"Cannot write to {str(self._folder)!r}: {error}. Training goes on")

    def _write(self, step: int, scalars: dict) -> None:
        with self._writer.as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(name, float(value))
            if self._attacked is not None:
                few = self._held_out.first(SHOWN)
                images = tf.constant(few.images)
                pair = tf.concat([images, self._attacked(images, tf.constant(few.labels))], axis=1)
                tf.summary.image("clean above attacked", _displayable(pair), max_outputs=SHOWN)
        self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._writer.close()


def _displayable(images: tf.Tensor) -> tf.Tensor:
    """Images with 1, 3 or 4 channels: those of other numbers show their first."""
    return images if images.shape[-1] in (1, 3, 4) else images[..., :1]
