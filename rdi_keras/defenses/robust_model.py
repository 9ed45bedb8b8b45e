"""Adversarial training of a multi-exit model, with the attack inside `train_step`."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from rdi_keras.attacks import SOLVERS, Attack, objective
from rdi_keras.attacks.randomness import fold_in
from rdi_keras.defenses.losses import LOSSES, TERMS, ExitTerm, Mix, RobustLoss, SplitMix
from rdi_keras.defenses.replay import CarriedPerturbation
from rdi_keras.errors import InputError
from rdi_keras.inference.policy import EntropyPolicy
from rdi_keras.models import MultiExitModel
from rdi_keras.names import exit_names


@keras.saving.register_keras_serializable(package="rdi_keras")
class RobustModel(MultiExitModel):
    """A multi-exit model that trains against attacks on its own exits.

    The loss is Σ_k w_k · L(z_k(x), z_k(x_adv), y) over the exits' logits z_k, where the attack makes x_adv
    from the batch at every step, and terms between exits. With L = `Mix` it is that of Hu et al., ICLR 2020,
    section 3.3.

    Examples:
        >>> model = RobustModel.from_backbone(small_cnn((28, 28, 1), num_classes=10))
        >>> attack = Attack(objective("exit_aware"), PGD(0.3, num_steps=10, step_size=0.075))
        >>> model.compile(keras.optimizers.Adam(), attack)
        >>> model.fit(batches, epochs=10)
    """

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        attack: Attack | None = None,
        robust_loss: RobustLoss | None = None,
        exit_weights: Sequence[float] | None = None,
        terms: Sequence[ExitTerm] = (),
        carried: CarriedPerturbation | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """Sets how the model is trained.

        Args:
            optimizer: a Keras optimizer or its name.
            attack: makes x_adv; `None` only with a loss that needs none.
            robust_loss: L; default `Mix(0.5)`.
            exit_weights: w, N numbers; default 1 for every exit.
            terms: losses between exits.
            carried: Free-AT: what makes x_adv in training, where the attack then only serves to validate. It
                is not saved with the model.
            seed: of all that is drawn: a draw depends on it and on the step only.
            **kwargs: as for any Keras model (`jit_compile`, `run_eagerly`, …).

        Raises:
            InputError: if the loss needs an attack that is not given, or the exit weights are not N numbers,
                or a loss or metrics of Keras are given: the model has its own.
        """
        if own := {"loss", "loss_weights", "metrics", "weighted_metrics"} & {
            name for name, value in kwargs.items() if value is not None
        }:
            raise InputError(
                f"A robust model has its own loss and metrics. Received: {', '.join(sorted(own))}. Give an "
                "attack, a robust_loss and exit weights instead"
            )
        robust_loss = Mix() if robust_loss is None else robust_loss
        exit_weights = list(exit_weights) if exit_weights else [1.0] * self.num_exits
        if attack is None and (robust_loss.needs_attack or terms or carried):
            raise InputError("The loss, or a term between exits, needs an attack. Received: none")
        if isinstance(robust_loss, SplitMix) and (terms or carried):
            raise InputError(
                "SplitMix sees every sample either clean or attacked; terms between exits and carried "
                "perturbations need both. Choose Mix"
            )
        if len(exit_weights) != self.num_exits:
            raise InputError(
                f"The model has {self.num_exits} exits and takes as many exit weights. Received: "
                f"{exit_weights}"
            )
        if attack is not None:
            attack.check_fits(self)
        super().compile(optimizer=optimizer, **kwargs)
        self.attack = attack
        self.robust_loss = robust_loss
        self.exit_weights = exit_weights
        self.terms = tuple(terms)
        self.carried = carried
        self.seed = seed
        self._loss = keras.metrics.Mean(name="loss")
        names = [f"{name}_loss" for name in exit_names(self.num_exits)]
        names += ["distillation_loss"] if self.terms else []
        self._parts = [keras.metrics.Mean(name=name) for name in names]
        kinds = ["accuracy", "adversarial_accuracy"] if self._attacks else ["accuracy"]
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
        return [self._loss, *self._parts, *itertools.chain.from_iterable(self._accuracies)]

    @property
    def _attacks(self) -> bool:
        return self.robust_loss.needs_attack or bool(self.terms) or self.carried is not None

    def train_step(self, data: tuple) -> dict:
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        step = self.optimizer.iterations
        num_split = self._num_split(images)
        if self.carried:
            views = [images, self.carried.apply(images)]
        elif num_split is not None:
            # `Mix` of one view and itself is its cross-entropy.
            attacked = self.attacked(images[:num_split], labels[:num_split], step)
            views = [tf.concat([attacked, images[num_split:]], axis=0)]
        else:
            views = self._views(images, labels, step)
        with tf.GradientTape() as tape:
            tape.watch(views[1:] if self.carried else [])
            logits = [self.logits(view, training=True) for view in views]
            loss, parts = self._defense_loss(logits, labels, sample_weight, step)
            # Under tf.distribute gradients are summed over replicas.
            scaled_loss = self.optimizer.scale_loss(loss / tf.distribute.get_strategy().num_replicas_in_sync)
        gradients, uphill = tape.gradient(
            scaled_loss, [self.trainable_weights, views[1:] if self.carried else []]
        )
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        if self.carried:
            self.carried.climb(uphill[0])
        self._share_statistics()
        return self._update_metrics(loss, parts, logits, labels, num_split)

    def _share_statistics(self) -> None:
        """Several devices that train together go on with the mean of their BatchNorm statistics."""
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            mean = tf.distribute.ReduceOp.MEAN
            moving = [each for each in self.non_trainable_weights if each.name.startswith("moving_")]
            for weight in moving:
                weight.assign(tf.distribute.get_replica_context().all_reduce(mean, weight.value))

    def test_step(self, data: tuple) -> dict:
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        step = -1  # One that training never takes: no start of training comes back.
        logits = [self.logits(view) for view in self._views(images, labels, step)]
        return self._update_metrics(*self._defense_loss(logits, labels, sample_weight, step), logits, labels)

    def attacked(self, images: tf.Tensor, labels: tf.Tensor, step: int | tf.Tensor) -> tf.Tensor:
        """The images `[B, H, W, C]` as the training attack makes them at this step."""
        if self.attack is None:
            raise InputError("The model was compiled without an attack. Compile it with one")
        known = EntropyPolicy(self.thresholds) if self.attack.objective.needs_policy else None
        return self.attack.perturb(self, images, labels, self._seed_at(step), known)

    def _seed_at(self, step: int | tf.Tensor) -> tf.Tensor:
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return seed
        return fold_in(seed, context.replica_id_in_sync_group)  # Devices draw different numbers.

    def _views(self, images: tf.Tensor, labels: tf.Tensor, step: int | tf.Tensor) -> list[tf.Tensor]:
        """The batch and, where the loss needs it, the same batch under attack."""
        return [images, self.attacked(images, labels, step)] if self._attacks else [images]

    def _num_split(self, images: tf.Tensor) -> tf.Tensor | None:
        """How many samples of a training batch are attacked, where the others stay clean; else `None`."""
        if not isinstance(self.robust_loss, SplitMix):
            return None
        number = tf.round(self.robust_loss.adversarial_weight * tf.cast(tf.shape(images)[0], tf.float32))
        return tf.maximum(tf.cast(number, tf.int32), 1)

    def _defense_loss(
        self,
        logits: list[list[tf.Tensor]],
        labels: tf.Tensor,
        sample_weight: tf.Tensor | None,
        step: int | tf.Tensor,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The loss, and its parts: one per exit, and that of the terms between exits."""
        clean, attacked = logits[0], logits[-1]
        per_sample = [
            weight * self.robust_loss(clean_view, attacked_view, labels)
            for weight, clean_view, attacked_view in zip(self.exit_weights, clean, attacked, strict=True)
        ]
        if self.terms:
            seed = self._seed_at(step)
            per_exit = zip(*(term(clean, attacked, labels, seed) for term in self.terms), strict=True)
            weighted = [w * tf.add_n(each) for w, each in zip(self.exit_weights, per_exit, strict=True)]
            per_sample.append(tf.add_n(weighted))
        scale = 1.0 if sample_weight is None else tf.cast(sample_weight, tf.float32)
        parts = [tf.reduce_mean(scale * each) for each in per_sample]
        # The layers' own losses too: weight regularisation, say.
        return tf.add_n(parts + self.losses), parts

    def _update_metrics(
        self,
        loss: tf.Tensor,
        parts: list[tf.Tensor],
        logits: list[list[tf.Tensor]],
        labels: tf.Tensor,
        num_split: tf.Tensor | None = None,
    ) -> dict:
        self._loss.update_state(loss)
        for metric, part in zip(self._parts, parts, strict=True):
            metric.update_state(part)
        everyone = slice(None)
        measured = [(everyone, view) for view in logits]
        if num_split is not None:
            measured = [(slice(num_split, None), logits[0]), (slice(num_split), logits[0])]
        for metrics, (samples, view) in zip(self._accuracies, measured, strict=True):
            for metric, each in zip(metrics, view, strict=True):
                metric.update_state(labels[samples], each[samples])
        return {metric.name: metric.result() for metric in self.metrics}

    def get_compile_config(self) -> dict | None:
        if not self.compiled:
            return None
        attack = self.attack and {
            "objective": str(self.attack.objective),
            "solver": _named(self.attack.solver),
            "keep": self.attack.keep,
        }
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "attack": attack,
            "robust_loss": _named(self.robust_loss),
            "exit_weights": self.exit_weights,
            "terms": [_named(term) for term in self.terms],
            "seed": self.seed,
        }

    def compile_from_config(self, config: dict) -> None:
        attack = config["attack"]
        if attack:
            solver = _made(attack["solver"], SOLVERS)
            attack = Attack(objective(attack["objective"]), solver, attack["keep"])
        self.compile(
            keras.saving.deserialize_keras_object(config["optimizer"]),
            attack,
            _made(config["robust_loss"], LOSSES),
            config["exit_weights"],
            [_made(term, TERMS) for term in config["terms"]],
            seed=config["seed"],
        )
        self.optimizer.build(self.trainable_variables)


def _named(settings: Any) -> dict:
    return {"name": type(settings).__name__, **dataclasses.asdict(settings)}


def _made(named: dict, classes: Mapping[str, type]) -> Any:
    settings = dict(named)
    return classes[settings.pop("name")](**settings)
