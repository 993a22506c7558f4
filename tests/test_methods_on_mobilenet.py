"""The conformance table of the methods: a network of depthwise convolutions."""

import pytest

from tests.methods_conformance import check
from tests.methods_table import COLUMNS, ROWS


@pytest.mark.parametrize("name", ROWS)
def test_method(name, tmp_path):
    check(name, COLUMNS["mobilenet_v2"], tmp_path)
