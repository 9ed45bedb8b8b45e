import numpy as np
import pytest

from rdi_keras.inference import LatencyTable

# Three stages of 1, 2 and 4 ms at one sample and 10, 20, 40 at ten; every exit passed adds 0.5 and 1.
TABLE = LatencyTable(
    engine="onnxruntime",
    num_threads=2,
    batch_sizes=[1, 10],
    ms_to_exit=[[1.0, 10.0], [3.5, 31.0], [8.0, 72.0]],
    ms_plain=[7.0, 70.0],
)


def test_time_per_sample():
    np.testing.assert_allclose(TABLE.per_sample(1), [1, 3.5, 8])
    np.testing.assert_allclose(TABLE.per_sample(10), [1, 3.1, 7.2])
    assert TABLE.plain_per_sample(10) == 7


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([10, 0, 0], 10),
        ([0, 0, 10], 72),
        ([9, 0, 1], 10 + 2.5 + 4.5),  # The later stages run on one sample.
        ([0, 0, 1], 8),
        ([0, 0, 0], 0),
    ],
)
def test_a_batch_is_the_sum_of_its_stages(counts, expected):
    assert TABLE.of_batch(np.array(counts)) == pytest.approx(expected)


def test_fewer_exits_cost_what_their_passing_costs_less():
    without_second = TABLE.with_exits([1, 3])
    np.testing.assert_allclose(without_second.ms_to_exit, [[1, 10], [7.5, 71]])
    np.testing.assert_allclose(TABLE.with_exits([2, 3]).ms_to_exit, [[3, 30], [7.5, 71]])
    np.testing.assert_allclose(TABLE.with_exits([3]).ms_to_exit, [TABLE.ms_plain])
    np.testing.assert_allclose(TABLE.with_exits([1, 2, 3]).ms_to_exit, TABLE.ms_to_exit)
