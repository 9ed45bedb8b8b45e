"""Another library's PGD, given our loss, must not be stronger than ours."""

import numpy as np
import tensorflow as tf

from rdi_keras.attacks import PGD, Attack, CompiledAttack, objective
from rdi_keras.evaluation import judge
from rdi_keras.inference import EntropyPolicy

EPSILON, STEPS = 0.1, 40
STEP_SIZE = 2.5 * EPSILON / STEPS


def test_cleverhans_pgd_is_no_stronger(digits):
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    model, unseen = digits
    goal, policy = objective("exit_aware"), EntropyPolicy(model.thresholds)
    tf.random.set_seed(0)
    theirs = projected_gradient_descent(
        model.logits,
        tf.constant(unseen.images),
        EPSILON,
        STEP_SIZE,
        STEPS,
        np.inf,
        loss_fn=lambda labels, logits: goal.loss(logits, labels, policy),
        clip_min=0.0,
        clip_max=1.0,
        y=tf.constant(unseen.labels),
        rand_init=1.0,
    )
    attack = CompiledAttack(Attack(goal, PGD(EPSILON, STEPS, STEP_SIZE)), model)
    ours = attack(unseen.images, unseen.labels, model.thresholds)

    accuracy = {
        name: judge(model, images, unseen.labels, model.thresholds).correct.mean()
        for name, images in (("theirs", theirs), ("ours", ours), ("clean", unseen.images))
    }
    print(f"{len(unseen)} images: {accuracy}")
    assert accuracy["ours"] < accuracy["clean"] - 0.05
    assert accuracy["ours"] <= accuracy["theirs"] + 0.01
