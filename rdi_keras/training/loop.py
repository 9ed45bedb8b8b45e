"""The training loop: epochs of steps that can be cut anywhere and taken up again."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from rdi_keras.data import Split
from rdi_keras.data.pipeline import TrainingBatches
from rdi_keras.defenses import RobustModel
from rdi_keras.training.checkpoints import Checkpoints, Progress
from rdi_keras.training.stopping import StopRequest

# Held-out images that one validation step takes.
VALIDATION_BATCH = 1000


class TrainingLoop:
    """Trains a compiled model as its `fit` would, but resumes in the middle of an epoch.

    Its whole state is the model's and the optimizer's variables, the metrics', what callbacks give as their
    `state()`, and how far it has come. Random numbers follow from seed, epoch and step. So a training that
    was cut and resumed ends, where operations are deterministic, with the very weights of one that was not.

    Args:
        model: compiled.
        batches: the training data.
        held_out: what every epoch is validated on.
        epochs: how many.
        callbacks: Keras callbacks, called as in `fit`; of batches only the end is told.
        checkpoints: where states are kept; `None` for nowhere.
        stop: asked after every step; on request the state is saved and `StoppedError` raised.
        on_epoch: is given the history after every epoch, and that of a resumed training at its start.
    """

    def __init__(
        self,
        model: RobustModel,
        batches: TrainingBatches,
        held_out: Split,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        checkpoints: Checkpoints | None = None,
        stop: StopRequest | None = None,
        on_epoch: Callable[[list[dict]], None] = lambda history: None,
    ):
        self._model, self._batches, self._held_out, self._epochs = model, batches, held_out, epochs
        self._stateful = [each for each in callbacks if hasattr(each, "state")]
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks), model=model, epochs=epochs, steps=batches.steps
        )
        self._checkpoints, self._stop, self._on_epoch = checkpoints, stop or StopRequest(), on_epoch
        self._strategy = tf.distribute.get_strategy()
        self._train = self._compiled(model.train_step)
        self._test = self._compiled(model.test_step)

    def run(self) -> list[dict]:
        """Trains to the end; returns a row of logs per epoch.

        Raises:
            StoppedError: if a stop was requested; the state is saved.
            InputError: if the newest checkpoint is of another training.
        """
        self._model.optimizer.build(self._model.trainable_variables)
        self._model.stop_training = False
        progress = self._restored()
        self._callbacks.on_train_begin()
        with self._stop.deferred():
            while progress.epoch < self._epochs and not self._stop.requested:
                self._run_epoch(progress)
            self._save(progress)
        self._callbacks.on_train_end()
        return progress.history

    def _run_epoch(self, progress: Progress) -> None:
        if progress.step == 0:
            self._callbacks.on_epoch_begin(progress.epoch)
            self._model.reset_metrics()
        batches = self._batches.epoch(progress.epoch, progress.step)
        for batch in self._strategy.experimental_distribute_dataset(batches):
            logs = self._train(*batch)
            progress.step += 1
            self._callbacks.on_train_batch_end(progress.step - 1, _numbers(logs))
            if self._stop.requested:
                return
            if self._checkpoints and progress.step < self._batches.steps:
                self._checkpoints.save_if_due(self._state, progress)
        logs = self._results()
        logs |= {f"val_{name}": value for name, value in self._validated().items()}
        self._callbacks.on_epoch_end(progress.epoch, logs)
        progress.history.append(logs)
        progress.epoch, progress.step = progress.epoch + 1, 0
        if self._model.stop_training:
            progress.epoch = self._epochs
        elif progress.epoch == self._epochs:
            # Where a running mean of the weights is kept, it becomes the weights.
            self._model.optimizer.finalize_variable_values(self._model.trainable_variables)
        self._on_epoch(progress.history)
        if self._checkpoints:
            self._checkpoints.save_if_due(self._state, progress)

    def _validated(self) -> dict:
        self._model.reset_metrics()
        for start in range(0, len(self._held_out), VALIDATION_BATCH):
            part = self._held_out.take(slice(start, start + VALIDATION_BATCH))
            self._test(tf.constant(part.images), tf.constant(part.labels))
        return self._results()

    def _results(self) -> dict:
        return {metric.name: float(metric.result()) for metric in self._model.metrics}

    def _compiled(self, step: Callable) -> Callable:
        def run(images, labels):
            return self._strategy.run(step, args=((images, labels),))

        return tf.function(run, jit_compile=self._model.jit_compile, reduce_retracing=True)

    # === State ===

    def _variables(self) -> list:
        model = self._model
        metrics = [each for metric in model.metrics for each in metric.variables]
        carried = [model.carried.delta] if model.carried else []
        return [*model.variables, *model.optimizer.variables, *metrics, *carried]

    def _state(self) -> list[np.ndarray]:
        states = [each.state() for each in self._stateful]
        own = [np.asarray(each) for each in self._variables()]
        return [*own, np.array([len(each) for each in states], int), *(a for each in states for a in each)]

    def _restored(self) -> Progress:
        found = self._checkpoints.restore() if self._checkpoints else None
        if found is None:
            return Progress()
        arrays, progress = found
        variables = self._variables()
        for variable, value in zip(variables, arrays, strict=False):
            variable.assign(value)
        lengths, *rest = arrays[len(variables) :]
        for callback, length in zip(self._stateful, lengths, strict=True):
            callback.restore(rest[:length])
            rest = rest[length:]
        if progress.history:
            self._on_epoch(progress.history)
        return progress

    def _save(self, progress: Progress) -> None:
        if self._checkpoints:
            self._checkpoints.save(self._state(), progress)


def _numbers(logs: dict) -> dict:
    return {name: float(np.asarray(value)) for name, value in logs.items()}
