"""MNIST, from TensorFlow Datasets."""

from rdi_keras.presets.config import (
    AttackConfig,
    CalibrationConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    TrainingConfig,
)


def mnist() -> Config:
    """SmallCNN with three exits on MNIST, L∞ ε = 0.3."""
    return Config(
        name="mnist",
        preset="mnist",
        epsilon="0.3",
        data=DataConfig(name="mnist"),
        training=TrainingConfig(
            attack=AttackConfig(num_steps=10),
            epochs=10,
            batch_size=128,
        ),
        calibration=CalibrationConfig(budget=0.55),
        evaluation=EvaluationConfig(limit=1000),
    )
