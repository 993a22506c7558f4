"""The conformance table, from LeNet to GoogLeNet: narrow networks, both modes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.conformance import check_precisely, check_saved, compressed, examples
from tests.support.marks import shown_elsewhere
from tests.support.narrow import CLASSIC, saved_often

# Their kinds of layers and joints are in the others, in a user's network of branches, or in the
# tables of the methods.
AGAIN = (
    "plain20",
    "resnet20",
    "resnet20b",
    "vgg16_bn",
    "resnet18",
    "resnet50",
    "mobilenet_v1",
    "mobilenet_v2",
    "squeezenet",
    "googlenet",
    "mobilenet_v3_small",
)


@pytest.mark.parametrize("name", shown_elsewhere(CLASSIC, AGAIN))
@examples(1)
@given(seed=st.integers(0, 10**6))
def test_masked_equals_sliced(name, seed):
    check_precisely(*CLASSIC[name], seed)


@pytest.mark.parametrize("name", saved_often(CLASSIC))
def test_saved_is_loaded(name, tmp_path):
    check_saved(*compressed(*CLASSIC[name], 0), tmp_path / "small")
