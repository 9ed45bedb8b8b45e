"""Second opinions: what attacks of other libraries, used as they are, do to a network with exits.

A library's word is never taken: its images are brought into the ball where it has one, and judged anew by our
own rule of where a sample leaves and what it is then answered.
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from rdi_keras.attacks import APGD, WRM, Attack, ExitNetwork, objective
from rdi_keras.checks import check_images, check_labels, check_thresholds
from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.evaluation import foreign_attacks as foreign
from rdi_keras.evaluation.cascade import WORST_CASE, Conditions
from rdi_keras.evaluation.flags import POINT, Flag
from rdi_keras.evaluation.foreign_attacks import answer_logits
from rdi_keras.evaluation.outcome import judge
from rdi_keras.names import parse_epsilon

__all__ = ["L2_BUDGET", "OPINIONS", "Opinion", "answer_logits", "ask"]

LINF, L2 = "linf", "l2"
# The L2 radius that accuracies are stated at: what RobustBench takes for CIFAR-10.
L2_BUDGET = 0.5


@dataclass(frozen=True)
class Opinion:
    """One attack of one library.

    Attributes:
        library: its name on the package index.
        modules: what must be importable.
        threat_model: `"linf"`: inside the L∞ ball; `"l2"`: no ball, as near in L2 as the attack gets.
        attack: an adapter of `foreign_attacks`.
        settings: keyword arguments of the adapter, beyond its defaults.
    """

    library: str
    modules: tuple[str, ...]
    threat_model: str
    attack: Callable[..., np.ndarray]
    settings: Mapping = field(default_factory=dict)

    def check_installed(self) -> None:
        """Raises `InputError` if the library, or a part of it, cannot be imported."""
        for module in self.modules:
            try:
                importlib.import_module(module)
            except ImportError:
                raise InputError(
                    f"A second opinion of {self.library} needs the module {module!r}, and there is none. "
                    "Install it: pip install 'rdi_keras[second-opinions]'"
                ) from None

    def perturb(
        self,
        network: ExitNetwork,
        images: np.ndarray,
        labels: np.ndarray,
        thresholds: ArrayLike,
        epsilon: float,
        seed: int = 0,
    ) -> np.ndarray:
        """The library's images, brought where its threat model allows.

        Args:
            network: under attack; in inference mode.
            images: float32 `[B, H, W, C]` in [0, 1].
            labels: int64 `[B]`, the right classes.
            thresholds: `[N-1]` in nats, known to the attacker.
            epsilon: radius of the L∞ ball in pixel units; an `l2` attack makes nothing of it.
            seed: of the library's draws.

        Returns:
            float32 `[B, H, W, C]` in [0, 1]; in the L∞ threat model ‖δ‖∞ ≤ ε. An image that came back with a
            value that is no number is the clean one again.
        """
        found = self.attack(network, images, labels, thresholds, epsilon, seed, **self.settings)
        found = np.asarray(found, np.float32)
        whole = np.isfinite(found).all(axis=(1, 2, 3), keepdims=True)
        found = np.where(whole, found, images)
        if self.threat_model == LINF:
            found = np.clip(found, images - epsilon, images + epsilon)
        return np.clip(found, 0, 1)


CLEVERHANS = ("cleverhans", ("cleverhans",))
FOOLBOX = ("foolbox", ("foolbox",))
# ART's AutoAttack imports `multiprocess` without requiring it.
ART = ("adversarial-robustness-toolbox", ("art.attacks.evasion", "multiprocess"))

OURS = ("rdi_keras", ("rdi_keras",))


def our_apgd_l2(
    network: ExitNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    thresholds: ArrayLike,
    epsilon: float,
    seed: int,
    num_steps: int = 50,
) -> np.ndarray:
    """Our own APGD on the exit-aware loss in the L2 ball of radius `L2_BUDGET`; as an adapter."""
    attack = Attack(objective("exit_aware"), APGD(L2_BUDGET, num_steps, norm=L2))
    return attack(network, images, labels, thresholds, seed).numpy()


def our_wrm(
    network: ExitNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    thresholds: ArrayLike,
    epsilon: float,
    seed: int,
    num_steps: int = 40,
) -> np.ndarray:
    """Our own WRM on the exit-aware loss, whose weight is ε; as an adapter."""
    attack = Attack(objective("exit_aware"), WRM(epsilon, num_steps))
    return attack(network, images, labels, thresholds, seed).numpy()


OPINIONS = {
    "cleverhans_pgd": Opinion(*CLEVERHANS, LINF, foreign.cleverhans_pgd),
    "cleverhans_spsa": Opinion(*CLEVERHANS, LINF, foreign.cleverhans_spsa),
    "cleverhans_carlini_wagner_l2": Opinion(*CLEVERHANS, L2, foreign.cleverhans_carlini_wagner),
    "foolbox_pgd": Opinion(*FOOLBOX, LINF, foreign.foolbox_pgd),
    "foolbox_deepfool_l2": Opinion(*FOOLBOX, L2, foreign.foolbox_deepfool),
    "art_auto_attack": Opinion(*ART, LINF, foreign.art_auto_attack),
}
# Attacks of our own under other threat models, for the same place in a report.
OPINIONS |= {"apgd_l2": Opinion(*OURS, L2, our_apgd_l2), "wrm": Opinion(*OURS, L2, our_wrm)}


def check(names: Sequence[str], opinions: Mapping[str, Opinion] = OPINIONS) -> None:
    """Raises `InputError` if there is no opinion of a name, or its library is not installed."""
    for name in names:
        if name not in opinions:
            raise InputError(f"Unknown second opinion {name!r}. Allowed: {', '.join(opinions)}")
        opinions[name].check_installed()


def ask(
    names: Sequence[str],
    network: ExitNetwork,
    data: Split,
    thresholds: ArrayLike,
    epsilon: float | str,
    seed: int = 0,
    batch_size: int = 250,
    l2_budget: float = L2_BUDGET,
    opinions: Mapping[str, Opinion] = OPINIONS,
    on_batch: Callable[[str], None] = lambda name: None,
) -> dict[str, dict]:
    """Attacks samples with other libraries' attacks and judges the results anew.

    Only samples that are answered right clean are attacked. SPSA and Carlini and Wagner take images one by
    one, about 0.3 s and 6 s each for a small network on 2 cores. AutoAttack takes 0.5 s per image with 15
    steps, 1 restart and 100 queries, and many times that with its own settings.

    Args:
        names: of `opinions`.
        network: under attack; in inference mode.
        data: the samples; images float32 `[n, H, W, C]` in [0, 1].
        thresholds: `[N-1]` in nats, known to the attacker.
        epsilon: radius of the L∞ ball in pixel units, e.g. `"8/255"`; more than 0.
        seed: every batch gets a seed of its own from it.
        batch_size: samples attacked at once.
        l2_budget: the L2 radius, in pixel units, at which the accuracy under `l2` attacks is stated.
        opinions: what can be asked; hand in others to change an attack's settings.
        on_batch: called after each batch with the opinion's name.

    Returns:
        Per name: `library`, `version`, `threat_model`, `settings`, `num_samples`, `clean_accuracy`, and
        `accuracy`, the share of samples answered right clean and on the attacked image. For `l2` attacks,
        which have no ball, also `mean_distance` and `median_distance`, L2 of the successful results (`None`
        where there are none), `l2_budget`, and `accuracy_in_budget`, where only results no farther than that
        count as successful. Threat models do not mix: an `l2` figure is no part of an L∞ worst case.

    Raises:
        InputError: an unknown name, a library that is not installed, or samples, thresholds or numbers that
            do not fit.
    """
    check(names, opinions)
    epsilon = parse_epsilon(epsilon)
    if epsilon == 0 or batch_size < 1 or len(data) == 0:
        raise InputError(
            "A second opinion takes an epsilon above 0, a batch size of at least 1 and at least 1 sample. "
            f"Received: epsilon={epsilon}, batch_size={batch_size}, {len(data)} samples"
        )
    images = check_images(data.images)
    data = Split(images, check_labels(data.labels, len(images), network.num_classes))
    thresholds = check_thresholds(thresholds, network.num_exits)
    batches = [slice(start, start + batch_size) for start in range(0, len(data), batch_size)]
    right = np.concatenate([_is_right(network, data.take(batch), thresholds) for batch in batches])

    answers = {}
    for name in names:
        attacked = data.images.copy()
        for batch in batches:
            index = np.arange(len(data))[batch][right[batch]]
            if len(index):
                one = data.take(index)
                attacked[index] = opinions[name].perturb(
                    network, one.images, one.labels, thresholds, epsilon, seed + batch.start
                )
            on_batch(name)
        survives = np.concatenate(
            [_is_right(network, Split(attacked[b], data.labels[b]), thresholds) for b in batches]
        )
        distances = np.linalg.norm((attacked - data.images).reshape(len(data), -1), axis=1)
        answers[name] = _summary(opinions[name], right, survives, distances, l2_budget)
    return answers


def compare(answers: dict[str, dict], conditions: Conditions) -> list[dict]:
    """Sets the suite's accuracy on the same samples beside every answer of `ask`.

    Returns:
        A flag, as of `find_flags`, for every L∞ attack that broke over a point more than the suite.
    """
    flags = []
    for name, each in answers.items():
        suite_accuracy = float(conditions.outcomes[WORST_CASE].correct[: each["num_samples"]].mean())
        each["suite_accuracy"] = suite_accuracy
        gained = suite_accuracy - each["accuracy"]
        if each["threat_model"] == LINF and gained > POINT:
            count = f"{100 * gained:.1f} % of {each['num_samples']} samples"
            message = f"{name} breaks {count} beyond what the suite broke"
            flags.append(asdict(Flag("second_opinion_wins", gained, message)))
    return flags


def _is_right(network: ExitNetwork, data: Split, thresholds: np.ndarray) -> np.ndarray:
    return judge(network, data.images, data.labels, thresholds).correct


def _summary(
    opinion: Opinion, right: np.ndarray, survives: np.ndarray, distances: np.ndarray, l2_budget: float
) -> dict:
    """One opinion's entry; all arrays `[n]`, the distances in L2 and pixel units."""
    broken = right & ~survives
    entry = {
        "library": opinion.library,
        "version": importlib.metadata.version(opinion.library),
        "threat_model": opinion.threat_model,
        "settings": dict(opinion.settings),
        "num_samples": len(right),
        "clean_accuracy": float(right.mean()),
        "accuracy": float((right & survives).mean()),
    }
    if opinion.threat_model == L2:
        found = distances[broken]
        entry |= {
            "mean_distance": float(found.mean()) if len(found) else None,
            "median_distance": float(np.median(found)) if len(found) else None,
            "l2_budget": l2_budget,
            "accuracy_in_budget": float((right & ~(broken & (distances <= l2_budget))).mean()),
        }
    return entry
