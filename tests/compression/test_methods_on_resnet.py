"""The conformance table of the methods: a residual network; full widths."""

import pytest

from tests.support.marks import shown_elsewhere
from tests.support.methods_conformance import check
from tests.support.methods_table import COLUMNS, FULL, ROWS

# What the row of another quantizer or of all together shows again.
AGAIN = ("weights codebook_clusters", "weights codebook_weights", "prune, codebook", "clips lsq")

# Of each kind another row is tested every time, and the method itself by its own tests.
IN_CI = (
    *("prune, repair, sparsify, lsq", "rounding adaround"),
    *("weights mse", "weights lsq", "weights codebook", "calibration entropy", "clips pact"),
    *("low rank, channel", "low rank, spatial"),
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in AGAIN else name
        for name in shown_elsewhere(ROWS, IN_CI)
    ],
)
def test_method(name, tmp_path):
    check(name, COLUMNS["resnet"], tmp_path)


SLOW = ("discrimination", "repair asymmetric", "prune, repair, sparsify, lsq", "prune, codebook")


@pytest.mark.slow
@pytest.mark.parametrize("column", FULL)
@pytest.mark.parametrize("name", SLOW)
def test_method_at_full_width(name, column, tmp_path):
    check(name, FULL[column], tmp_path)
