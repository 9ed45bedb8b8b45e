"""Steps in bfloat16 train as those in float32 do, and nothing else changes."""

import numpy as np
import pytest
import tensorflow as tf

from rdi_keras.cli.machine import precision_line
from rdi_keras.errors import InputError
from rdi_keras.training import precision
from rdi_keras.training.precision import BFLOAT16_OPTION, in_precision


def test_only_the_wrapped_call_is_in_bfloat16(monkeypatch):
    native = precision.computes_bfloat16()
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: True)
    seen = []

    @tf.function
    def product(a, b):
        return a @ b

    def step(a, b):
        seen.append(tf.config.optimizer.get_experimental_options().get(BFLOAT16_OPTION, False))
        return product(a, b)

    random = np.random.default_rng(0)
    a, b = (tf.constant(random.normal(size=(64, 64)), tf.float32) for _ in range(2))
    exact = step(a, b)
    rough = in_precision("bfloat16", step)(a, b)
    again = step(a, b)
    assert seen == [False, True, False]
    assert rough.dtype == tf.float32
    np.testing.assert_allclose(rough, exact, rtol=0.05, atol=0.2)
    np.testing.assert_array_equal(again, exact)
    if native:
        assert np.abs(rough - exact).max() > 0


@pytest.mark.parametrize(
    ("flags", "native"),
    [("fma avx512_bf16 amx_bf16", True), ("avx512f avx512_bf16", False), ("avx2", False), (None, False)],
    ids=["AMX", "AVX512-BF16", "neither", "no such file"],
)
def test_only_a_cpu_with_amx_trains_in_bfloat16(flags, native, monkeypatch):
    def read_text(path):
        if flags is None:
            raise FileNotFoundError(path)
        return f"flags\t: {flags}\n"

    monkeypatch.setattr(precision.Path, "read_text", read_text)
    assert (in_precision("bfloat16", print) is not print) == native
    assert in_precision("float32", print) is print
    assert precision_line("float32") == "precision: float32"
    said = "precision: bfloat16" + ("" if native else ", on this CPU float32")
    assert precision_line("bfloat16") == said


def test_the_option_is_taken_back_after_a_failure(monkeypatch):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: True)

    def step():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_precision("bfloat16", step)()
    assert not tf.config.optimizer.get_experimental_options().get(BFLOAT16_OPTION, False)


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="float16'. Allowed: float32, bfloat16"):
        in_precision("float16", print)
