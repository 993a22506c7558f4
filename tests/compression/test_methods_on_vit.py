"""The conformance table of the methods: a transformer."""

import pytest

from tests.support.methods_conformance import check
from tests.support.methods_table import COLUMNS, OFTEN, ROWS


@pytest.mark.parametrize("name", sorted(OFTEN))
def test_method(name, tmp_path):
    check(name, COLUMNS["vit_tiny"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS.keys() - OFTEN))
def test_other_method(name, tmp_path):
    check(name, COLUMNS["vit_tiny"], tmp_path)
