"""Attacks of other libraries, each used as it is: adapters that hand them a network with exits.

Every adapter takes `(network, images, labels, thresholds, epsilon, seed)`: float32 images `[B, H, W, C]` in
[0, 1], int64 labels `[B]` (the right classes), thresholds `[N-1]` in nats, the radius of the L∞ ball in pixel
units, and returns float32 images of the same shape. What comes back is the library's word alone: nothing is
clipped, checked or judged here. The libraries are imported at the first use.
"""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from rdi_keras.attacks import REACH, ExitAware, ExitNetwork
from rdi_keras.inference import EntropyPolicy


def answer_logits(network: ExitNetwork, thresholds: ArrayLike) -> Callable[[tf.Tensor], tf.Tensor]:
    """The network as other libraries know networks: one output, that of the exit where a sample leaves.

    Args:
        network: runs in inference mode.
        thresholds: `[N-1]` in nats.

    Returns:
        A compiled function from images `[B, H, W, C]` (cast to float32) to logits `[B, C]`, float32. It is
        differentiable; where an iterate leaves is decided anew at every call, and no gradient flows through
        that decision.
    """
    policy = EntropyPolicy(tf.constant(np.asarray(thresholds, np.float32)))

    @tf.function(autograph=False, reduce_retracing=True)
    def answer(images: tf.Tensor) -> tf.Tensor:
        return policy.answer(network.logits(tf.cast(images, tf.float32)))[0]

    return answer


def cleverhans_pgd(
    network: ExitNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    thresholds: ArrayLike,
    epsilon: float,
    seed: int,
    num_steps: int = 40,
) -> np.ndarray:
    """`projected_gradient_descent` of cleverhans in L∞, with our exit-aware loss."""
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    policy = EntropyPolicy(tf.constant(np.asarray(thresholds, np.float32)))
    goal = ExitAware()
    with seeded(seed):
        return projected_gradient_descent(
            network.logits,
            tf.constant(images),
            epsilon,
            REACH * epsilon / num_steps,
            num_steps,
            np.inf,
            loss_fn=lambda labels, logits: goal.loss(logits, labels, policy),
            clip_min=0.0,
            clip_max=1.0,
            y=tf.constant(labels),
            rand_init=1.0,  # The library takes `None` for no random start.
        ).numpy()


def cleverhans_spsa(
    network: ExitNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    thresholds: ArrayLike,
    epsilon: float,
    seed: int,
    num_steps: int = 40,
    samples: int = 128,
) -> np.ndarray:
    """SPSA of cleverhans in L∞: no gradients, only answers; `num_steps × samples` of them per image."""
    from cleverhans.tf2.attacks import spsa

    answer = answer_logits(network, thresholds)

    class Adam(spsa.SPSAAdam):
        """The library's own optimiser hands Keras 3 an argument `lr`, which is no longer taken."""

        def __init__(self, learning_rate: float, delta: float):
            tf.optimizers.Adam.__init__(self, learning_rate)
            self.lr = learning_rate
            self._delta = delta
            self._num_samples, self._num_iters = samples // 2, 1  # The library mirrors every sample.

    optimizer = Adam(learning_rate=0.01, delta=0.01)

    def margin(image: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        return -spsa.margin_logit_loss(answer(image), label, nb_classes=network.num_classes)

    @tf.function(autograph=False)
    def perturb(image: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        # What the library's `spsa` does after it has made its optimiser. It takes one image at a time.
        return spsa.projected_optimization(
            margin, image, label, epsilon, num_steps, optimizer, 0.0, 1.0, early_stop_loss_threshold=0.0
        )

    with seeded(seed):
        single = zip(tf.constant(images)[:, None], tf.constant(labels)[:, None], strict=True)
        return np.concatenate([perturb(image, label) for image, label in single])


def cleverhans_carlini_wagner(
    network: ExitNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    thresholds: ArrayLike,
    epsilon: float,
    seed: int,
    num_steps: int = 200,
    searches: int = 5,
) -> np.ndarray:
    """Carlini and Wagner's L2 attack of cleverhans: no ball, as small a distance as it finds.

    The library takes labels for *targets*, so it gets none and guesses the answer as it stands: images that
    the network gets wrong are driven elsewhere.
    """
    from cleverhans.tf2.attacks.carlini_wagner_l2 import CarliniWagnerL2

    attack = CarliniWagnerL2(
        answer_logits(network, thresholds),
        # With more than one image its constants, `[B, H, W, C]`, meet losses `[B]` and mix the samples.
        batch_size=1,
        max_iterations=num_steps,
        binary_search_steps=searches,
        # Its own 0.005 is for 1,000 steps.
        learning_rate=1e-2,
    )
    attack.optimizer = _Adam(1e-2)
    return attack.attack(images)


class _Adam:
    """Adam (Kingma and Ba, ICLR 2015) as cleverhans knows optimisers: from Keras 2.

    There `variables()` is a method and holds no learning rate (the caller sets all of them to zero), and a
    variable that was not seen before is welcome. Keras 3's Adam differs in all three.
    """

    def __init__(self, learning_rate: float):
        self.learning_rate = learning_rate
        self.variable: tf.Variable | None = None
        self.state: list[tf.Variable] = []

    def variables(self) -> list[tf.Variable]:
        return self.state

    def apply_gradients(self, pairs: list[tuple[tf.Tensor, tf.Variable]]) -> None:
        [(gradient, variable)] = pairs
        if variable is not self.variable:
            zeros = tf.zeros_like(gradient)
            self.variable, self.state = variable, [tf.Variable(each) for each in (0.0, zeros, zeros)]
        _adam_step(variable, gradient, self.learning_rate, *self.state)


@tf.function(autograph=False)
def _adam_step(
    variable: tf.Variable,
    gradient: tf.Tensor,
    rate: float,
    count: tf.Variable,
    mean: tf.Variable,
    square: tf.Variable,
) -> None:
    count.assign_add(1.0)
    mean.assign(0.9 * mean + 0.1 * gradient)
    square.assign(0.999 * square + 0.001 * gradient**2)
    size = tf.sqrt(square / (1 - 0.999**count)) + 1e-7
    variable.assign_sub(rate * mean / (1 - 0.9**count) / size)


def foolbox_pgd(
    network: ExitNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    thresholds: ArrayLike,
    epsilon: float,
    seed: int,
    num_steps: int = 40,
) -> np.ndarray:
    """`LinfPGD` of foolbox: the cross-entropy of the exit that answers."""
    from foolbox.attacks import LinfPGD

    attack = LinfPGD(steps=num_steps, rel_stepsize=REACH / num_steps)
    return _run_foolbox(attack, network, images, labels, thresholds, epsilon, seed)


def foolbox_deepfool(
    network: ExitNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    thresholds: ArrayLike,
    epsilon: float,
    seed: int,
    num_steps: int = 50,
) -> np.ndarray:
    """`L2DeepFoolAttack` of foolbox: no ball, steps to the nearest boundary of the exit that answers."""
    from foolbox.attacks import L2DeepFoolAttack

    attack = L2DeepFoolAttack(steps=num_steps)
    return _run_foolbox(attack, network, images, labels, thresholds, None, seed)


def _run_foolbox(
    attack: Callable[..., tuple],
    network: ExitNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    thresholds: ArrayLike,
    epsilon: float | None,
    seed: int,
) -> np.ndarray:
    import foolbox

    # Foolbox passes no `training=False`; the network's logits are those of inference as they stand.
    model = foolbox.TensorFlowModel(answer_logits(network, thresholds), bounds=(0, 1))
    criterion = foolbox.Misclassification(tf.constant(labels))
    with seeded(seed):
        raw, _, _ = attack(model, tf.constant(images), criterion, epsilons=epsilon)
    return raw.numpy()


def art_auto_attack(
    network: ExitNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    thresholds: ArrayLike,
    epsilon: float,
    seed: int,
    num_steps: int = 100,
    restarts: int = 5,
    queries: int = 5000,
) -> np.ndarray:
    """AutoAttack of the Adversarial Robustness Toolbox in L∞, untargeted, with its default sub-attacks.

    These are APGD on the cross-entropy, APGD on the difference of logits ratio, DeepFool, and Square with
    `queries` steps. They are made here with the library's own settings, because those it makes itself draw
    progress bars, and because the first step is 2 · ε, as in the paper (Croce and Hein, ICML 2020), where the
    library says 0.1 whatever ε is. DeepFool works in L2: what it finds outside the ball, AutoAttack drops.
    The difference of logits ratio needs 3 classes and is left out where there are 2.
    """
    from art.attacks.evasion import AutoAttack, AutoProjectedGradientDescent, DeepFool, SquareAttack
    from art.estimators.classification import TensorFlowV2Classifier

    answer = answer_logits(network, thresholds)
    classifier = TensorFlowV2Classifier(
        lambda images, training: answer(images),
        nb_classes=network.num_classes,
        input_shape=images.shape[1:],
        clip_values=(0.0, 1.0),
    )
    losses = ["cross_entropy", "difference_logits_ratio"][: network.num_classes - 1]
    shared = {"eps": epsilon, "batch_size": len(images), "verbose": False}
    attacks = [
        AutoProjectedGradientDescent(
            classifier,
            eps_step=2 * epsilon,
            max_iter=num_steps,
            nb_random_init=restarts,
            loss_type=loss,
            **shared,
        )
        for loss in losses
    ]
    attacks.append(
        DeepFool(classifier, max_iter=num_steps, epsilon=1e-3, batch_size=len(images), verbose=False)
    )
    attacks.append(SquareAttack(classifier, max_iter=queries, nb_restarts=restarts, p_init=0.8, **shared))
    whole = AutoAttack(classifier, eps=epsilon, eps_step=2 * epsilon, attacks=attacks, batch_size=len(images))
    with seeded(seed):
        return whole.generate(images, labels)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators that the libraries draw from, and gives NumPy's state back afterwards.

    TensorFlow's global seed stays set: it has no public way back.
    """
    state = np.random.get_state()
    np.random.seed(seed)
    tf.random.set_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
