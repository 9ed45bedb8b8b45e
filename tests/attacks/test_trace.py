"""A traced attack ends where the compiled one does, and tells how it came there."""

import functools
import threading
import time

import numpy as np
import pytest

from rdi_keras.attacks import (
    APGD,
    WRM,
    Attack,
    AttackStoppedError,
    CompiledAttack,
    Square,
    TracedAttack,
    mi_fgsm,
    objective,
    pgd,
)
from rdi_keras.errors import InputError

EPSILON, STEPS = 0.1, 7
SOLVERS = {
    "pgd": pgd(EPSILON, STEPS, restarts=2),
    "apgd": APGD(EPSILON, STEPS),
    "mi_fgsm": mi_fgsm(EPSILON, STEPS),
    "wrm": WRM(0.5, STEPS),
    "square": Square(EPSILON, STEPS),
}


def note(told, *progress):
    told.append(progress)


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("exit_aware", "pgd"),
        ("max_average", "pgd"),
        ("targeted_exit(1)", "apgd"),
        ("average", "mi_fgsm"),
        ("main", "wrm"),
        ("exit_aware_margin", "square"),
        ("slowdown", "pgd"),
    ],
)
def test_the_result_is_that_of_the_compiled_attack(model, batch, name, solver):
    images, labels = batch
    thresholds = model.thresholds.numpy()
    attack = Attack(objective(name), SOLVERS[solver])
    compiled, traced = CompiledAttack(attack, model), TracedAttack(attack, model)
    for image, label in zip(images[:6], labels[:6], strict=True):
        expected = compiled([image], [label], thresholds, seed=3).numpy()[0]
        told = []
        tell = functools.partial(note, told)
        trace = traced.trace(image, label, thresholds, seed=3, on_run=tell)
        np.testing.assert_allclose(trace.image, expected, atol=1e-5)
        assert told == [(number, trace.planned) for number in range(trace.runs + 1)]
        logits = np.stack([each.numpy() for each in model.logits(trace.iterates)], axis=1)
        np.testing.assert_allclose(trace.logits, logits, atol=1e-5)
        if trace.best is None:
            np.testing.assert_array_equal(trace.image, image)
        else:
            np.testing.assert_array_equal(trace.image, trace.iterates[trace.best])
    assert (compiled.forward, compiled.backward) == (traced.forward + 6, traced.backward)


def test_a_way_has_a_point_per_step_inside_the_ball(model, batch):
    images, labels = batch
    # Nothing is ever reached without side exits that answer wrongly: all is run.
    traced = TracedAttack(Attack(objective("slowdown"), pgd(EPSILON, STEPS)), model)
    trace = traced.trace(images[0], labels[0], [9.0, 9.0])
    assert (trace.runs, trace.planned, trace.reached) == (2, 2, False)
    assert trace.iterates.shape == (STEPS + 1, *images[0].shape)
    assert np.abs(trace.iterates - images[0]).max() <= EPSILON + 1e-6
    assert trace.iterates.min() >= 0
    assert trace.iterates.max() <= 1
    moves = np.abs(np.diff(trace.iterates, axis=0)).max(axis=(1, 2, 3))
    assert (moves > 0).all()
    assert moves.max() <= 2.5 * EPSILON / STEPS + 1e-6


def test_where_the_clean_image_is_wrong_nothing_is_run(model, batch):
    image = batch[0][0]
    answer = int(np.argmax(model.logits(image[None])[-1]))
    trace = TracedAttack(Attack(objective("main"), pgd(EPSILON, STEPS)), model).trace(
        image, (answer + 1) % 4, [0.0, 0.0]
    )
    assert (trace.runs, trace.reached, trace.best) == (0, True, None)
    np.testing.assert_array_equal(trace.image, image)


@pytest.mark.parametrize("solver", [pgd(EPSILON, 100_000), Square(EPSILON, 100_000)], ids=["pgd", "square"])
def test_another_thread_sees_the_steps_and_may_stop_it(model, batch, solver):
    traced = TracedAttack(Attack(objective("slowdown"), solver), model)
    outcome = []

    def run():
        try:
            traced.trace(batch[0][0], batch[1][0], [9.0, 9.0])
        except AttackStoppedError:
            outcome.append("stopped")

    thread = threading.Thread(target=run)
    thread.start()
    end = time.monotonic() + 60
    while traced.steps < 50 and time.monotonic() < end:
        time.sleep(0.01)
    traced.stop()
    thread.join(60)
    assert outcome == ["stopped"]
    assert 50 <= traced.steps < 100_000
    # The next one is not stopped.
    short = TracedAttack(Attack(objective("slowdown"), pgd(EPSILON, 3)), model, traced._loops)
    assert len(short.trace(batch[0][0], batch[1][0], [9.0, 9.0]).iterates) == 4
    assert short.steps == 6


def test_a_label_of_no_class_is_refused(model, batch):
    traced = TracedAttack(Attack(objective("main"), pgd(EPSILON, 1)), model)
    with pytest.raises(InputError, match="Labels must be"):
        traced.trace(batch[0][0], 17, [0.0, 0.0])
