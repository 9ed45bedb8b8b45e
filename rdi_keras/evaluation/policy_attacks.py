"""Attacks on one network under many policies: the images that thresholds are judged on."""

import numpy as np

from rdi_keras.attacks import CompiledAttack
from rdi_keras.data import Split
from rdi_keras.evaluation.suite import suite
from rdi_keras.inference import Views, thresholds_for_shares
from rdi_keras.models import MultiExitModel

# Of the samples that reach a side exit, the share that leaves there, in the policies that are attacked first:
# an attack on an eager network and one on a hesitant one find different images.
FIRST_SHARES = (0.5, 0.15)


class PolicyAttacks:
    """The `quick` list and `main`, compiled once, for any thresholds of one network.

    Args:
        model: the network.
        part: held-out samples.
        epsilon: radius of the L∞ ball.
        seed: of the attacks.
    """

    def __init__(self, model: MultiExitModel, part: Split, epsilon: float, seed: int):
        entries = [*suite("quick", epsilon), suite("standard", epsilon)[0]]
        loops: dict = {}
        self._attacks = [CompiledAttack(entry.attack, model, loops) for entry in entries]
        self._model, self._part, self._seed = model, part, seed

    def __call__(self, thresholds: np.ndarray) -> list[Views]:
        """What every exit makes of the samples, as each attack on these thresholds `[N-1]` changed them."""
        part, samples = self._part, np.arange(len(self._part))
        found = []
        for number, attack in enumerate(self._attacks):
            images = attack(part.images, part.labels, thresholds, (self._seed, number), samples)
            found.append(Views.of(self._model.logits(images), part.labels))
        return found

    def at_several(self, entropies: np.ndarray) -> list[Views]:
        """The same for an eager and a hesitant policy, set by entropies `[n, N]` of clean samples."""
        found = []
        for share in FIRST_SHARES:
            shares = [share * (1 - share) ** k for k in range(entropies.shape[1] - 1)]
            found += self(thresholds_for_shares(entropies, [*shares, 1 - sum(shares)]))
        return found
