"""From data to a served adaptive model, in Python alone.

    python examples/serve_adaptive.py

Short training on small images, to show the way: what it prints is no result.
"""

import tempfile
from pathlib import Path

import keras

import rdi_keras as rdi

EPSILON = "0.1"


def main(folder: Path, epochs: int = 8) -> tuple[float, rdi.serving.ServedPrediction]:
    """Returns the accuracy under attack on held-out images, and what the server answered for them."""
    keras.utils.set_random_seed(0)
    data = rdi.data.load("digits")
    images, labels = data.calibration.images, data.calibration.labels

    # A network with three exits, trained on what an attack makes of every batch.
    backbone = rdi.models.backbone("small_cnn", data.input_shape, data.num_classes)
    model = rdi.RobustModel.from_backbone(backbone)
    attack = rdi.attacks.Attack(rdi.attacks.objective("average"), rdi.attacks.pgd(EPSILON, num_steps=5))
    model.compile(keras.optimizers.Adam(2e-3), attack, rdi.defenses.Mix(adversarial_weight=0.75))
    model.fit(data.train.images, data.train.labels, batch_size=64, epochs=epochs, verbose=2)

    # Thresholds from held-out images: on average 55 % of the backbone's compute.
    rdi.training.calibrate(model, data.calibration, rdi.presets.CalibrationConfig(budget=0.55))
    budgets = rdi.training.calibrate_budgets(model, data.calibration)

    # The next free version in the folder, as TensorFlow Serving wants it.
    metadata = rdi.serving.describe(model, data.class_names, data.name, EPSILON, "example", budgets)
    version = rdi.serving.export_saved_model(model, metadata, folder / "example")

    # An attack that knows the thresholds, on what was exported.
    predictor = rdi.Predictor(version)
    attack = rdi.attacks.Attack(rdi.attacks.objective("exit_aware"), rdi.attacks.pgd(EPSILON, num_steps=20))
    attacked = attack(predictor, images, labels, predictor.thresholds)
    robust = float((predictor.predict(attacked.numpy()).label == labels).mean())

    serving = rdi.serving
    with (
        serving.LoopbackServer(version.parent) as server,
        serving.Client(server.address, "example") as client,
    ):
        served = client.predict(images)
    print(f"right: {(served.label == labels).mean():.1%}, under attack {robust:.1%}")
    saved = 1 - served.macs.mean() / metadata.macs_backbone
    print(f"compute saved: {saved:.1%}, answered by version {served.version[0]}")
    return robust, served


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
