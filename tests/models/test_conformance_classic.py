"""The conformance table, from LeNet to GoogLeNet: narrow networks, both modes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.conformance import check_precisely, check_saved, compressed, examples
from tests.support.narrow import CLASSIC


@pytest.mark.parametrize("name", [name for name in CLASSIC if name != "googlenet"])
@examples(2)
@given(seed=st.integers(0, 10**6))
def test_masked_equals_sliced(name, seed):
    check_precisely(*CLASSIC[name], seed)


@examples(1)  # 58 layers, of which none can be left out: a minute of compiling
@given(seed=st.integers(0, 10**6))
def test_masked_equals_sliced_in_googlenet(seed):
    check_precisely(*CLASSIC["googlenet"], seed)


@pytest.mark.parametrize("name", CLASSIC)
def test_saved_is_loaded(name, tmp_path):
    check_saved(*compressed(*CLASSIC[name], 0), tmp_path / "small")
