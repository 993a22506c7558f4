"""Which cases of a table `make test` leaves to CI."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def shown_elsewhere(names: Iterable[Any], again: Collection[Any]) -> list[Any]:
    """Parameters of a test; those ``again`` show what another quick test shows, so CI has them."""
    return [pytest.param(name, marks=pytest.mark.ci) if name in again else name for name in names]
