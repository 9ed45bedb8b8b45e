import numpy as np
import pytest

from rdi_keras.errors import InputError
from rdi_keras.serving.latency import leaving_at, measure_latency, median_ms, open_engine


@pytest.mark.parametrize("engine", ["onnxruntime", "tensorflow"])
def test_every_exit_and_the_plain_backbone_are_timed(model, images, engine):
    threads = 1 if engine == "onnxruntime" else None
    table = measure_latency(model, images[:3], engine, threads, batch_sizes=(1, 8), seconds=0.01)
    assert (table.engine, table.batch_sizes) == (engine, [1, 8])
    assert table.num_threads == 1 or engine == "tensorflow"
    assert np.shape(table.ms_to_exit) == (3, 2)
    assert np.shape(table.ms_plain) == (2,)
    assert (np.array(table.ms_to_exit) > 0).all()


def test_thresholds_make_everybody_leave_at_one_exit(model, images):
    engine = open_engine(model, "onnxruntime", 1)
    for number in (1, 2, 3):
        assert set(engine.adaptive(images, leaving_at(number, 3, 64))["exit"]) == {number}


def test_calls_take_turns_and_the_first_does_not_count():
    called = []
    found = median_ms([lambda: called.append("a"), lambda: called.append("b")], seconds=0)
    assert called == ["a", "b"] * 4
    assert len(found) == 2


def test_an_unknown_engine_is_refused(model):
    with pytest.raises(InputError, match="Unknown engine 'steam'. Allowed: onnxruntime, tensorflow"):
        open_engine(model, "steam")
    with pytest.raises(InputError, match="Received: 2 for 'tensorflow'"):
        open_engine(model, "tensorflow", 2)
