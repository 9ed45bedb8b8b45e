"""Adversarial training of a multi-exit model, with the attack inside `train_step`."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from rdi_keras.attacks import PGD, SOLVERS, Attack, cross_entropy, objective
from rdi_keras.errors import InputError
from rdi_keras.inference.policy import EntropyPolicy
from rdi_keras.models import MultiExitModel
from rdi_keras.names import exit_names


@keras.saving.register_keras_serializable(package="rdi_keras")
class RobustModel(MultiExitModel):
    """A multi-exit model that trains against attacks on its own exits.

    The loss is Σ_k w_k · [(1 − λ) · L_k(x) + λ · L_k(x_adv)] with cross-entropies L_k, where the
    attack makes x_adv from the batch at every step. Source: Hu et al., ICLR 2020, section 3.3.

    Example:

    >>> model = RobustModel.from_backbone(small_cnn((28, 28, 1), num_classes=10))
    >>> attack = Attack(objective("exit_aware"), PGD(0.3, num_steps=10, step_size=0.075))
    >>> model.compile(keras.optimizers.Adam(), attack)
    >>> model.fit(batches, epochs=10)
    """

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        attack: Attack | None = None,
        adversarial_weight: float = 0.5,
        exit_weights: Sequence[float] | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """Sets how the model is trained.

        Args:
            optimizer: a Keras optimizer or its name.
            attack: makes x_adv; `None` only with an adversarial weight of 0.
            adversarial_weight: λ, 0 to 1; with 0 no attack is run.
            exit_weights: w, N numbers; default 1 for every exit.
            seed: of the attack's random starts; a start depends on it and on the step only.
            **kwargs: as for any Keras model (`jit_compile`, `run_eagerly`, …).

        Raises:
            InputError: if λ is outside [0, 1], needs an attack that is not given, or the exit
                weights are not N numbers, or a loss or metrics are given: the model has its own.
        """
        if own := {"loss", "loss_weights", "metrics", "weighted_metrics"} & {
            name for name, value in kwargs.items() if value is not None
        }:
            raise InputError(
                f"A robust model has its own loss and metrics. Received: {', '.join(sorted(own))}. Give an "
                "attack, its weight and exit weights instead"
            )
        exit_weights = list(exit_weights) if exit_weights else [1.0] * self.num_exits
        if not 0 <= adversarial_weight <= 1:
            raise InputError(
                f"The adversarial weight must lie between 0 and 1. Received: {adversarial_weight}"
            )
        if adversarial_weight and attack is None:
            raise InputError("An adversarial weight above 0 needs an attack. Received: none")
        if len(exit_weights) != self.num_exits:
            raise InputError(
                f"The model has {self.num_exits} exits and takes as many exit weights. Received: "
                f"{exit_weights}"
            )
        if attack is not None:
            attack.check_fits(self)
        super().compile(optimizer=optimizer, **kwargs)
        self.attack = attack
        self.adversarial_weight = adversarial_weight
        self.exit_weights = exit_weights
        self.seed = seed
        self._loss = keras.metrics.Mean(name="loss")
        kinds = ["accuracy", "adversarial_accuracy"] if adversarial_weight else ["accuracy"]
        self._accuracies = [
            [
                keras.metrics.SparseCategoricalAccuracy(name=f"{name}_{kind}")
                for name in exit_names(self.num_exits)
            ]
            for kind in kinds
        ]

    @property
    def metrics(self) -> list:
        if not self.compiled:
            return []
        return [self._loss, *itertools.chain.from_iterable(self._accuracies)]

    def train_step(self, data: tuple) -> dict:
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        views = self._views(images, labels, self.optimizer.iterations)
        with tf.GradientTape() as tape:
            logits = [self.logits(view, training=True) for view in views]
            loss = self._defense_loss(logits, labels, sample_weight)
            scaled_loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return self._update_metrics(loss, logits, labels)

    def test_step(self, data: tuple) -> dict:
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        # The number of a step that training never takes, so that no start of training comes back.
        views = self._views(images, labels, -1)
        logits = [self.logits(view) for view in views]
        return self._update_metrics(self._defense_loss(logits, labels, sample_weight), logits, labels)

    def _views(self, images, labels, step) -> list:
        """The batch and, unless λ is 0, the same batch under attack."""
        if not self.adversarial_weight:
            return [images]
        known = EntropyPolicy(self.thresholds) if self.attack.objective.needs_policy else None
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
        return [images, self.attack.perturb(self, images, labels, seed, known)]

    def _defense_loss(self, logits: list[list], labels, sample_weight):
        mix = [1 - self.adversarial_weight, self.adversarial_weight]
        scale = 1.0 if sample_weight is None else tf.cast(sample_weight, tf.float32)
        parts = [
            view_weight * exit_weight * tf.reduce_mean(scale * cross_entropy(each, labels))
            for view_weight, view in zip(mix, logits, strict=False)
            if view_weight  # At λ = 1 the clean view is for the metrics alone.
            for exit_weight, each in zip(self.exit_weights, view, strict=True)
        ]
        return tf.add_n([*parts, *self.losses])  # The layers' own: weight regularisation, say.

    def _update_metrics(self, loss, logits: list[list], labels) -> dict:
        self._loss.update_state(loss)
        for metrics, view in zip(self._accuracies, logits, strict=True):
            for metric, each in zip(metrics, view, strict=True):
                metric.update_state(labels, each)
        return {metric.name: metric.result() for metric in self.metrics}

    def get_compile_config(self) -> dict | None:
        if not self.compiled:
            return None
        attack = self.attack and {
            "objective": str(self.attack.objective),
            "solver": {"name": type(self.attack.solver).__name__, **dataclasses.asdict(self.attack.solver)},
        }
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "attack": attack,
            "adversarial_weight": self.adversarial_weight,
            "exit_weights": self.exit_weights,
            "seed": self.seed,
        }

    def compile_from_config(self, config: dict) -> None:
        attack = config["attack"]
        if attack:
            settings = dict(attack["solver"])
            make = SOLVERS[settings.pop("name", PGD.__name__)]
            attack = Attack(objective(attack["objective"]), make(**settings))
        optimizer = keras.saving.deserialize_keras_object(config["optimizer"])
        self.compile(**{**config, "optimizer": optimizer, "attack": attack})
        self.optimizer.build(self.trainable_variables)
