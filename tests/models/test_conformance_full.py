"""The conformance table with more policies, and at full width and depth: minutes, on request.

In float64: through fifty random layers the rounding of float32 grows to some
per mille in the gradients, in the masked and in the sliced network alike, and
1e-4 would tell nothing about either.
"""

import jax
import jax.numpy as jnp
import pytest

from pfrl.models import catalogue as zoo
from tests.support.conformance import check, check_precisely, check_saved, forget_networks
from tests.support.narrow import CLASSIC, MODERN

SIDE = 32
FULL = [name for name in (zoo.MODELS | zoo.DENSE_MODELS) if name != "lenet5"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CLASSIC | MODERN)
def test_masked_equals_sliced_with_more_policies(name, seed):
    check_precisely(*(CLASSIC | MODERN)[name], seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_masked_equals_sliced_at_full_width(name, tmp_path):
    def constructor(rngs):
        return zoo.build(name, 10, (SIDE, SIDE, 3), rngs)

    with jax.enable_x64(True):
        small, x = check(constructor, (SIDE, SIDE, 3), seed=0, dtype=jnp.float64)
        check_saved(small, x, tmp_path / "small")
    forget_networks()
