import pytest

from rdi_keras import training
from rdi_keras.data import Split
from rdi_keras.presets import preset


@pytest.fixture(scope="session")
def digits():
    """A robust three-exit model, trained for a few seconds, and images that it never saw."""
    config = preset("digits")
    config.training.epochs = 8
    config.training.attack.num_steps = 5
    dataset = training.load_data(config)
    unseen = dataset.train.take(slice(1000, None))
    dataset = dataset.with_train_limit(1000)
    model = training.build_model(config, dataset)
    training.fit_model(model, config, dataset)
    return model, unseen


@pytest.fixture(scope="session")
def few(digits) -> Split:
    return digits[1].first(60)
