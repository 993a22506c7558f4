"""The conformance table of the methods: a network of depthwise convolutions."""

import pytest

from tests.support.marks import shown_elsewhere
from tests.support.methods_conformance import check
from tests.support.methods_table import COLUMNS, ROWS, STRUCTURAL


@pytest.mark.parametrize("name", shown_elsewhere(sorted(STRUCTURAL), STRUCTURAL - {"l1"}))
def test_method(name, tmp_path):
    check(name, COLUMNS["mobilenet_v2"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS.keys() - STRUCTURAL))
def test_other_method(name, tmp_path):
    check(name, COLUMNS["mobilenet_v2"], tmp_path)
