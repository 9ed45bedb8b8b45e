"""How far a measured fraction may be from the true one."""

import operator

from rdi_keras.errors import InputError

CONFIDENCE = 0.95
# Beyond it the normal quantile runs out of float64's digits.
MAX_CONFIDENCE = 1 - 1e-9


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The Wilson score interval of a fraction such as an accuracy.

    Unlike the normal approximation it stays within [0, 1] and has a width at 0 and 1 too, where
    accuracies under attack often are. Source: Wilson, JASA 22 (1927); Brown et al., Statistical
    Science 16 (2001), section 3.1.1.

    Args:
        successes: how many of the samples, e.g. were answered rightly.
        n: how many samples there were.
        confidence: the share of such intervals that hold the true fraction, in (0, 1).

    Returns:
        `(low, high)`, fractions with 0 ≤ low ≤ successes / n ≤ high ≤ 1.

    Raises:
        InputError: if the counts are no integers with 0 ≤ successes ≤ n and n ≥ 1, or the confidence
            is not between 0 and `MAX_CONFIDENCE`.
    """
    from scipy.stats import binomtest

    try:
        successes, n = operator.index(successes), operator.index(n)
    except TypeError:
        raise InputError(
            "An interval is made of two counts, which are integers: multiply a fraction by n. Received: "
            f"successes={successes!r}, n={n!r}"
        ) from None
    if not 0 <= successes <= n or n < 1:
        raise InputError(
            "An interval needs at least 1 sample, and from 0 to n successes. Received: "
            f"successes={successes}, n={n}"
        )
    if not 0 < confidence <= MAX_CONFIDENCE:
        raise InputError(
            f"The confidence must lie between 0 and 1 (at most 1 - 1e-9), such as {CONFIDENCE}. Received: "
            f"{confidence!r}"
        )
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    # Rounding may leave the fraction a last digit outside, where n is very large.
    fraction = successes / n
    return min(float(interval.low), fraction), max(float(interval.high), fraction)
