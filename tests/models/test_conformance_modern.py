"""The conformance table, from EfficientNet to the Mixer: narrow networks, both modes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.conformance import check_precisely, check_saved, compressed, examples
from tests.support.marks import shown_elsewhere
from tests.support.narrow import MODERN, saved_often


# The tables of the methods have the transformer, of which here is the one whose products are fused,
# and a network of depthwise convolutions; a user's network shuffles channels. ConvNeXt is made of
# parts of these.
@pytest.mark.parametrize(
    "name",
    shown_elsewhere(MODERN, ("vit_tiny", "efficientnet_lite0", "shufflenet_v2", "convnext_tiny")),
)
@examples(1)
@given(seed=st.integers(0, 10**6))
def test_masked_equals_sliced(name, seed):
    check_precisely(*MODERN[name], seed)


@pytest.mark.parametrize("name", saved_often(MODERN))
def test_saved_is_loaded(name, tmp_path):
    check_saved(*compressed(*MODERN[name], 0), tmp_path / "small")
