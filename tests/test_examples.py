"""The example does what it says."""

import importlib.util
from pathlib import Path

import numpy as np

import rdi_keras as rdi

ROOT = Path(__file__).parents[1]


def test_serve_adaptive(tmp_path, capsys):
    file = ROOT / "examples" / "serve_adaptive.py"
    assert len(file.read_text().splitlines()) < 60
    spec = importlib.util.spec_from_file_location("serve_adaptive", file)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    robust, served = example.main(tmp_path, epochs=4)

    held_out = rdi.data.load("digits").calibration
    accuracy = float((served.label == held_out.labels).mean())
    assert accuracy > 0.85
    assert 0.3 < robust < accuracy
    assert set(served.version) == {1}
    # The budget that thresholds were calibrated for, on the images that it was calibrated on.
    cost = rdi.inference.cost_table(
        rdi.models.MultiExitModel.from_backbone(rdi.models.backbone("small_cnn", (8, 8, 1), 10))
    )
    assert served.macs.mean() <= 0.55 * cost.backbone
    assert len(set(served.exit)) > 1
    here = rdi.Predictor(tmp_path / "example", engine="tensorflow").predict(held_out.images)
    np.testing.assert_array_equal(served.label, here.label)
    np.testing.assert_array_equal(served.exit, here.exit)
    assert f"right: {accuracy:.1%}, under attack {robust:.1%}\n" in capsys.readouterr().out
