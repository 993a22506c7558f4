"""The conformance table of the methods: a residual network and a transformer; full widths."""

import pytest

from tests.methods_conformance import check
from tests.methods_table import COLUMNS, FULL, ROWS


@pytest.mark.parametrize("column", ["resnet20", "vit_tiny"])
@pytest.mark.parametrize("name", ROWS)
def test_method(name, column, tmp_path):
    check(name, COLUMNS[column], tmp_path)


SLOW = ("discrimination", "asymmetric", "prune, repair, sparsify, lsq", "prune, codebook")


@pytest.mark.slow
@pytest.mark.parametrize("column", FULL)
@pytest.mark.parametrize("name", SLOW)
def test_method_at_full_width(name, column, tmp_path):
    check(name, FULL[column], tmp_path)
