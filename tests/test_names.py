from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdi_keras.errors import InputError
from rdi_keras.names import exit_name, exit_names, parse_epsilon


def test_exits_are_numbered_from_one():
    assert exit_names(3) == ["exit_1", "exit_2", "exit_3"]
    assert exit_name(3) == exit_names(3)[-1]


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.1", 0.1), (0.1, 0.1), ("1e-3", 0.001), (0, 0.0), ("1", 1.0)]
)
def test_epsilon_is_a_number_or_a_fraction(text, value):
    assert parse_epsilon(text) == value


@given(st.fractions(0, 1))
def test_any_fraction_between_0_and_1_is_an_epsilon(fraction):
    assert parse_epsilon(str(fraction)) == float(fraction)
    assert parse_epsilon(float(fraction)) == pytest.approx(float(fraction), rel=1e-15)


@given(st.fractions().filter(lambda each: not 0 <= each <= 1))
def test_epsilon_beyond_the_images_range_is_refused(fraction):
    with pytest.raises(InputError, match="between 0 and 1"):
        parse_epsilon(str(fraction))
    assert not 0 <= Fraction(str(fraction)) <= 1


@pytest.mark.parametrize("text", ["", "x", "8/0", "8/255/2", "nan", "inf", "1e400", None])
def test_what_is_no_epsilon_is_named(text):
    with pytest.raises(InputError, match=r"epsilon must .* Received: ") as caught:
        parse_epsilon(text)
    assert repr(text) in str(caught.value)
