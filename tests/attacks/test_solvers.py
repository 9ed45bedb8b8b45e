"""How candidates are ranked, and which iterate a climb returns."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from rdi_keras.attacks import APGD, L2, NFGSM, PGD, WRM, Linf, Square, mi_fgsm
from rdi_keras.attacks.apgd import checkpoints
from rdi_keras.attacks.randomness import batch_draw
from rdi_keras.attacks.solvers import rank_of

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


def test_an_infinite_loss_is_the_best_of_its_kind_and_no_number_the_worst():
    best, worse, other = ranks([np.inf, 5.0, np.inf], [True, True, False])
    assert best > worse > other
    wrong, right = ranks([np.nan, np.nan], [True, False])
    assert worse > wrong > other > right


def test_a_climb_keeps_a_fooled_iterate_over_a_later_one_with_a_huge_loss():
    """The loss rises all the way; only the iterates below 0.35 fool the network."""
    solver = PGD(1.0, num_steps=8, step_size=0.1, random_start=False)

    def value(iterate):
        pixel = iterate[:, 0, 0, 0]
        return 1e6 * pixel, pixel < 0.35

    result = solver.run(value, tf.zeros([2, 1, 1, 1]), batch_draw(tf.constant([0, 0]), 2))
    np.testing.assert_allclose(result.numpy().ravel(), [0.3, 0.3], rtol=1e-6)


DRAW = batch_draw(tf.constant([0, 0], tf.int64), 2)


def ramp(images):
    """Rises with every pixel, the first one most; nothing is ever reached."""
    weights = tf.reshape(
        tf.range(images.shape[1] * images.shape[2], 0, -1, dtype=tf.float32), images.shape[1:]
    )
    return tf.reduce_sum(images * weights, axis=(1, 2, 3)), tf.zeros(len(images), tf.bool)


@pytest.mark.parametrize("ball", [Linf(0.2), L2(0.5)], ids=str)
@given(st.integers(0, 2**31), st.floats(0, 3))
def test_projection_is_inside_and_leaves_what_is_inside_alone(ball, seed, size):
    random = np.random.default_rng(seed)
    images = random.uniform(0, 1, (3, 4, 4, 2)).astype(np.float32)
    candidate = (images + size * random.normal(size=images.shape)).astype(np.float32)
    inside = ball.project(tf.constant(candidate), tf.constant(images))
    assert ball.holds(inside, images)
    np.testing.assert_allclose(ball.project(inside, images), inside, atol=1e-6)
    assert ball.holds(
        ball.random_point(tf.constant(images), batch_draw(tf.constant([seed, 0], tf.int64), 3)), images
    )


def test_a_point_outside_is_told():
    images = tf.fill([1, 2, 2, 1], 0.5)
    assert not Linf(0.1).holds(images + 0.11, images)
    assert not L2(0.1).holds(images + 0.06, images)
    assert L2(0.1).holds(images + 0.05, images)
    assert not Linf(0.9).holds(images + 0.6, images), "outside [0, 1]"


@pytest.mark.parametrize("ball", [Linf(0.2), L2(0.5)], ids=str)
def test_the_steepest_direction_has_length_one(ball):
    gradient = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 3, 1)), tf.float32)
    np.testing.assert_allclose(ball.distance(ball.steepest(gradient), tf.zeros_like(gradient)), 1, rtol=1e-6)


def test_momentum_adds_up_gradients_by_hand():
    """The second gradient points back, but is outweighed: μ = 1 keeps the direction."""
    calls = []

    def value(iterate):
        calls.append(iterate)
        return tf.reduce_sum(iterate, axis=(1, 2, 3)), tf.zeros(2, tf.bool)

    solver = mi_fgsm(0.4, num_steps=4)
    images = tf.fill([2, 1, 1, 1], 0.5)
    memory = solver.memory(images)
    first, memory = solver.step(0, images, None, tf.fill([2, 1, 1, 1], 3.0), images, memory)
    second, memory = solver.step(1, first, None, tf.fill([2, 1, 1, 1], 1e-3), images, memory)
    np.testing.assert_allclose(memory, 2.0, rtol=1e-5)  # Every gradient counts as one of mean size 1.
    np.testing.assert_allclose(second, 0.7, rtol=1e-6)


def test_checkpoints_are_the_papers():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_apgd_halves_its_steps_where_the_loss_stops_rising():
    """On a peak that plain steps of 0.4 jump over, APGD comes close: its steps shrink."""
    images = tf.fill([2, 1, 1, 1], 0.5)

    def value(iterate):
        return -tf.abs(iterate[:, 0, 0, 0] - 0.5731), tf.zeros(2, tf.bool)

    plain = PGD(0.2, num_steps=50, step_size=0.4).run(value, images, DRAW)
    auto = APGD(0.2, num_steps=50).run(value, images, DRAW)
    assert np.abs(auto - 0.5731).max() < 0.005
    assert np.abs(plain - 0.5731).max() > 0.01


@pytest.mark.parametrize("solver", [APGD(0.2, 20), PGD(0.2, 20, 0.05), Square(0.2, 300)], ids=str)
def test_a_linear_loss_is_climbed_to_the_corner_of_the_ball(solver):
    images = tf.fill([2, 4, 4, 1], 0.5)
    result = solver.run(ramp, images, DRAW)
    assert np.mean(np.isclose(result, 0.7, atol=1e-5)) >= 0.9


def test_square_needs_no_gradient():
    images = tf.fill([2, 4, 4, 1], 0.5)

    def value(iterate):
        loss, reached = ramp(iterate)
        return tf.stop_gradient(tf.round(loss)), reached

    result = Square(0.2, 300).run(value, images, DRAW)
    assert (ramp(result)[0] > ramp(images)[0] + 20).numpy().all()


def test_squares_shrink():
    sizes = Square(0.1, 1000)._sizes(28, 28)
    assert sizes[0] == round(np.sqrt(0.8) * 28)
    assert sizes[-1] <= 2
    assert (np.diff(sizes) <= 0).all()


def test_wrm_goes_where_loss_and_distance_balance():
    """ε · L − ½ ‖δ‖² with L = w · x is highest at δ = ε · w."""
    images, weights = tf.fill([1, 1, 1, 2], 0.5), tf.constant([0.3, -0.2])

    def value(iterate):
        return tf.reduce_sum(iterate * weights, axis=(1, 2, 3)), tf.zeros(1, tf.bool)

    result = WRM(0.5, num_steps=100).run(value, images, DRAW)
    np.testing.assert_allclose(result - images, 0.5 * weights[None, None, None], atol=0.01)


def test_n_fgsm_adds_a_full_step_to_noise_of_twice_the_size():
    """Along a ramp, so that the step is +ε everywhere: what is left without it is the noise."""
    images = tf.fill((64, 5, 5, 1), 0.5)
    found = NFGSM(0.1).last(ramp, images, batch_draw(tf.constant([1, 2]), 64)) - images
    noise = (found - 0.1).numpy()
    assert np.abs(noise).max() <= 0.2 + 1e-6
    assert np.abs(noise).max() > 0.19
    assert abs(noise.mean()) < 0.01
    near_edges = NFGSM(0.1).last(ramp, tf.ones((64, 5, 5, 1)), batch_draw(tf.constant([1, 2]), 64))
    assert near_edges.numpy().max() == 1
