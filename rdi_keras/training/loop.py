"""The training loop: epochs of steps that can be cut anywhere and taken up again."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rdi_keras.data import Split
from rdi_keras.data.pipeline import TrainingBatches
from rdi_keras.defenses import RobustModel
from rdi_keras.errors import InputError, StoppedError, WorkerLostError
from rdi_keras.training.checkpoints import Checkpoints, Progress
from rdi_keras.training.cluster import Cluster
from rdi_keras.training.precision import in_precision
from rdi_keras.training.stopping import StopRequest

# Held-out images that one validation step takes.
VALIDATION_BATCH = 1000
# What TensorFlow raises where a process that it waits for is gone.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


class TrainingLoop:
    """Trains a compiled model as its `fit` would, but resumes in the middle of an epoch.

    Its whole state is the model's and the optimizer's variables, the metrics', what callbacks give as their
    `state()`, and how far it has come. Random numbers follow from seed, epoch and step. So a training that
    was cut and resumed ends, where operations are deterministic, with the very weights of one that was not.

    Where the optimizer keeps a running mean of the weights, epochs are validated, and callbacks called, with
    the mean in the weights' place, and training ends with it. BatchNorm's statistics are always the latest.

    Args:
        model: compiled.
        batches: the training data.
        held_out: what every epoch is validated on.
        epochs: how many.
        callbacks: Keras callbacks, called as in `fit`; of batches only the end is told. What they add to an
            epoch's logs becomes part of its row.
        checkpoints: where states are kept; `None` for nowhere.
        stop: asked after every step; on request the state is saved and `StoppedError` raised.
        on_epoch: is given the history after every epoch, and that of a resumed training at its start.
        cluster: who trains together; the model was built in its strategy's scope.
        precision: of training steps: `float32` or `bfloat16`, see `in_precision`.
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
        cluster: Cluster | None = None,
        precision: str = "float32",
    ):
        self._model, self._batches, self._held_out, self._epochs = model, batches, held_out, epochs
        self._callbacks = list(callbacks)
        for each in self._callbacks:
            each.set_model(model)
            each.set_params({"epochs": epochs, "steps": batches.steps})
        self._checkpoints, self._stop, self._on_epoch = checkpoints, stop or StopRequest(), on_epoch
        self._cluster = cluster or Cluster(tf.distribute.get_strategy())
        batches.check_divisible(self._cluster.num_replicas)
        self._train = in_precision(precision, self._compiled(model.train_step))
        self._test = self._compiled(model.test_step)

    def run(self) -> Progress:
        """Trains to the end; returns how it went.

        Raises:
            StoppedError: if a stop was requested; the state is saved.
            WorkerLostError: if another process of the cluster is gone.
            InputError: if the newest checkpoint is of another training.
        """
        try:
            with self._cluster.strategy.scope():
                return self._run()
        except LOST as error:
            if self._cluster.num_workers == 1:
                raise
            raise WorkerLostError(
                "A process of this training is gone. Start all of them again with --resume: training goes on "
                f"from the last state. TensorFlow says: {str(error).splitlines()[0]}"
            ) from error

    def _run(self) -> Progress:
        self._model.optimizer.build(self._model.trainable_variables)
        self._model.stop_training = False
        progress = self._restored()
        begun = time.monotonic() - progress.seconds
        self._tell("on_train_begin")
        kept, is_saved = "the state is saved", True
        with self._stop.deferred():
            while progress.epoch < self._epochs and not self._stop.requested:
                self._run_epoch(progress, begun)
            if self._stop.requested and self._cluster.num_workers > 1:
                # They do not come to the same step.
                kept, is_saved = "the last state that all processes agreed on stays", False
            elif self._checkpoints and not self._checkpoints.save(self._state(), progress):
                kept, is_saved = "the state could not be saved; the last one stays", False
        if self._stop.signal is not None:
            raise StoppedError(self._stop.signal, kept, is_saved)
        self._tell("on_train_end")
        return progress

    def _run_epoch(self, progress: Progress, begun: float) -> None:
        if progress.step == 0:
            self._tell("on_epoch_begin", progress.epoch)
            self._model.reset_metrics()
        batches = self._cluster.strategy.distribute_datasets_from_function(
            lambda context: self._batches.epoch(
                progress.epoch,
                progress.step,
                (context.input_pipeline_id, context.num_input_pipelines),
                context.num_replicas_in_sync // context.num_input_pipelines,
            )
        )
        for batch in batches:
            logs = self._train(*batch)
            progress.step, progress.seconds = progress.step + 1, time.monotonic() - begun
            self._tell("on_train_batch_end", progress.step - 1, self._numbers(logs))
            if self._stop.requested:
                return
            if self._checkpoints and progress.step < self._batches.steps:
                self._checkpoints.save_if_due(self._state, progress)
        logs = self._results()
        with self._averaged(for_good=progress.epoch + 1 == self._epochs):
            logs |= {f"val_{name}": value for name, value in self._validated().items()}
            self._tell("on_epoch_end", progress.epoch, logs)
        progress.history.append(logs)
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.seconds = time.monotonic() - begun
        if self._model.stop_training:
            progress.epoch = self._epochs
        if self._checkpoints:
            self._checkpoints.save_if_due(self._state, progress)
        self._on_epoch(progress.history)

    @contextlib.contextmanager
    def _averaged(self, for_good: bool) -> Iterator[None]:
        """A context in which weights are their running mean, if there is one; at the end they stay so."""
        optimizer, variables = self._model.optimizer, self._model.trainable_variables
        if not optimizer.use_ema:
            yield
            return
        latest = [keras.ops.convert_to_numpy(each) for each in variables]
        optimizer.finalize_variable_values(variables)
        yield
        if not for_good and not self._model.stop_training:
            for variable, value in zip(variables, latest, strict=True):
                variable.assign(value)

    def _validated(self) -> dict:
        self._model.reset_metrics()
        for start in range(0, len(self._held_out), VALIDATION_BATCH):
            part = self._held_out.take(slice(start, start + VALIDATION_BATCH))
            self._test(tf.constant(part.images), tf.constant(part.labels))
        return self._results()

    def _results(self) -> dict:
        return {metric.name: float(metric.result()) for metric in self._model.metrics}

    def _compiled(self, step: Callable) -> Callable:
        def run(images: tf.Tensor, labels: tf.Tensor) -> dict:
            return self._cluster.strategy.run(step, args=((images, labels),))

        return tf.function(run, autograph=False, jit_compile=self._model.jit_compile, reduce_retracing=True)

    def _numbers(self, logs: dict) -> dict:
        """As the first of this process's devices sees them."""
        local = self._cluster.strategy.experimental_local_results
        return {name: float(local(value)[0]) for name, value in logs.items()}

    def _tell(self, event: str, *arguments: Any) -> None:
        for each in self._callbacks:
            getattr(each, event)(*arguments)

    # === State ===

    def _variables(self) -> list:
        model = self._model
        metrics = [each for metric in model.metrics for each in metric.variables]
        carried = [model.carried.delta] if model.carried else []
        return [*model.variables, *model.optimizer.variables, *metrics, *carried]

    def _stateful(self) -> list[keras.callbacks.Callback]:
        return [each for each in self._callbacks if hasattr(each, "state")]

    def _state(self) -> list[np.ndarray]:
        states = [each.state() for each in self._stateful()]
        own = [keras.ops.convert_to_numpy(each) for each in self._variables()]
        return [*own, np.array([len(each) for each in states], int), *(a for each in states for a in each)]

    def _restored(self) -> Progress:
        found = self._checkpoints.restore() if self._checkpoints else None
        if found is None:
            return Progress()
        arrays, progress = found
        variables = self._variables()
        shapes = [tuple(each.shape) for each in variables]
        if [each.shape for each in arrays[: len(shapes)]] != shapes or len(arrays) == len(shapes):
            raise InputError(
                "The newest checkpoint is of another model or optimizer. Go on with what it was written by, "
                "or start anew: --overwrite true, without --resume"
            )
        for variable, value in zip(variables, arrays, strict=False):
            variable.assign(value)
        lengths, *rest = arrays[len(variables) :]
        for callback, length in zip(self._stateful(), lengths, strict=True):
            callback.restore(rest[:length])
            rest = rest[length:]
        if progress.history:
            self._on_epoch(progress.history)
        return progress
