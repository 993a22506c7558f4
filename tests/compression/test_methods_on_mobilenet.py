"""The conformance table of the methods: a network of depthwise convolutions."""

import pytest

from tests.support.methods_conformance import check
from tests.support.methods_table import COLUMNS, OFTEN, ROWS


@pytest.mark.parametrize("name", sorted(OFTEN))
def test_method(name, tmp_path):
    check(name, COLUMNS["mobilenet_v2"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS.keys() - OFTEN))
def test_other_method(name, tmp_path):
    check(name, COLUMNS["mobilenet_v2"], tmp_path)
