"""Where thresholds stand: all of them scaled together, or each by itself."""

from collections.abc import Sequence

import numpy as np

LATEST, SOONEST = -10, 10  # Halvings and doublings; beyond them nobody, or everybody, leaves at exit 1.


def scaled(thresholds: Sequence[float], doublings: float, max_entropy: float) -> list[float]:
    """A model's thresholds, all made looser or stricter alike.

    Args:
        thresholds: N-1 entropies in nats.
        doublings: 0 leaves them; 1 doubles them, so that samples leave sooner; -1 halves them. `LATEST` sends
            every sample to the last exit, `SOONEST` lets every one leave at exit 1.
        max_entropy: ln C.
    """
    if doublings <= LATEST:
        return [0.0] * len(thresholds)
    if doublings >= SOONEST:
        return [above(max_entropy)] * len(thresholds)
    if doublings == 0:
        return list(thresholds)
    return [min(each * 2.0**doublings, above(max_entropy)) for each in thresholds]


def above(max_entropy: float) -> float:
    """A threshold that every entropy is below."""
    return float(np.nextafter(np.float32(max_entropy * 1.001), np.float32(np.inf)))


def scale_text(doublings: float) -> str:
    """A place of the slider in words."""
    if doublings <= LATEST:
        return "nobody leaves early"
    if doublings >= SOONEST:
        return "everybody leaves at exit 1"
    return "as calibrated" if doublings == 0 else f"thresholds × {2.0**doublings:.3g}"
