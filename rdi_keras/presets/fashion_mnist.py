"""Fashion-MNIST, from TensorFlow Datasets."""

from rdi_keras.presets.config import Config
from rdi_keras.presets.mnist import mnist


def fashion_mnist() -> Config:
    """SmallCNN with three exits on Fashion-MNIST, L∞ ε = 0.1; the recipe of the preset mnist.

    Command: python training/fit.py --preset fashion_mnist
    """
    config = mnist()
    config.name = config.preset = config.data.name = "fashion_mnist"
    config.epsilon = "0.1"
    config.training.attack.num_steps = 5
    config.training.epochs = 8
    config.calibration.budget = 0.57
    return config
