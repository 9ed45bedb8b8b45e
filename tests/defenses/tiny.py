"""A two-exit network that trains in a second."""

import keras
from keras import layers

from rdi_keras.attacks import PGD, Attack, objective
from rdi_keras.defenses import RobustModel
from rdi_keras.models import Backbone, Stage

ATTACK = Attack(objective("average"), PGD(0.1, num_steps=2, step_size=0.1))


def build(attack=ATTACK, optimizer="adam", **options) -> RobustModel:
    def body(features):
        return layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(features)))

    def head(features):
        return layers.Dense(3)(layers.Flatten()(features))

    keras.utils.set_random_seed(1)
    model = RobustModel.from_backbone(Backbone("tiny", (5, 5, 1), (Stage(body, head), Stage(body, head))))
    model.compile(optimizer, attack, **options)
    return model
