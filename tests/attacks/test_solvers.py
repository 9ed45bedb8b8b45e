"""How candidates are ranked, and which iterate a climb returns."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from rdi_keras.attacks import PGD
from rdi_keras.attacks.solvers import ascend, rank_of

LARGEST = np.finfo(np.float32).max


def ranks(losses, fooled) -> np.ndarray:
    return rank_of(tf.constant(losses, tf.float32), tf.constant(fooled)).numpy()


def test_fooled_beats_not_fooled_whatever_the_losses():
    losses = [-LARGEST, -1e9, -1e4, -1.0, 0.0, 1.0, 1e4, 1e9, LARGEST]
    for fooled, other in itertools.product(losses, losses):
        better, worse = ranks([fooled, other], [True, False])
        assert better > worse, (fooled, other)


@pytest.mark.parametrize("fooled", [False, True])
def test_among_equals_the_next_larger_loss_wins(fooled):
    losses = np.concatenate([np.linspace(-100, 100, 1001), np.logspace(-6, 2, 50)]).astype(np.float32)
    above = np.nextafter(losses, np.float32(np.inf))
    # Around 0 float32 is finer than float64 is beside an offset.
    losses, above = losses[np.abs(losses) > 1e-6], above[np.abs(losses) > 1e-6]
    same = [fooled] * len(losses)
    assert (ranks(above, same) > ranks(losses, same)).all()


def test_an_infinite_loss_is_the_best_of_its_kind_and_no_number_is_never_better():
    best, worse, other = ranks([np.inf, 5.0, np.inf], [True, True, False])
    assert best > worse > other
    nothing = ranks([np.nan], [True])
    assert not (nothing > ranks([0.0], [False])).any()


def test_a_climb_keeps_a_fooled_iterate_over_a_later_one_with_a_huge_loss():
    """The loss rises all the way; only the iterates below 0.35 fool the network."""
    solver = PGD(1.0, num_steps=8, step_size=0.1, random_start=False)

    def value(iterate):
        pixel = iterate[:, 0, 0, 0]
        return 1e6 * pixel, pixel < 0.35

    result = ascend(solver, value, tf.zeros([2, 1, 1, 1]), tf.constant([0, 0]))
    np.testing.assert_allclose(result.numpy().ravel(), [0.3, 0.3], rtol=1e-6)
