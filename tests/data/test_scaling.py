"""Pixels are scaled as the user says: --mean and --std."""

import numpy as np
import pytest

from experiments.settings.blocks import ModelBlock
from pfrl.data import DataError, load
from pfrl.data.seen import scaling, seen


def test_the_options_are_a_part_of_the_datas_name():
    block = ModelBlock(data="digits", mean=(0.5,), std=(0.25,))
    assert block.data == "digits?mean=0.5&std=0.25" and block.mean is None
    both = ModelBlock(data="imagefolder:a?b", image_size=224, mean=(0.1, 1e-3), std=(1.0, 2.0))
    assert both.data == "imagefolder:a?b?size=224&mean=0.1,0.001&std=1.0,2.0"
    assert scaling(both.data) == ("imagefolder:a?b?size=224", (0.1, 0.001), (1.0, 2.0))
    assert scaling("imagefolder:a?size=224") == ("imagefolder:a?size=224", None, None)
    assert scaling("digits") == ("digits", None, None)


def test_pixels_are_scaled_by_them_whatever_the_network_says():
    plain, ours = load("digits"), load("digits?mean=0.5&std=0.25")
    assert np.array_equal(plain.train.images, ours.train.images)
    assert (ours.mean, ours.std) == ((0.5,), (0.25,))
    assert seen(ours, (0.1,), (0.2,)).mean == (0.5,)
    assert seen(plain, (0.1,), (0.2,)).mean == (0.1,)
    images, _ = next(iter(ours.batches(ours.search, 4)))
    expected = (ours.search.images[:4] / 255 - 0.5) / 0.25
    np.testing.assert_allclose(np.sort(np.ravel(images)), np.sort(np.ravel(expected)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits?mean=0.5", "--mean and --std go together"),
        ("digits?mean=a&std=1", "are no numbers"),
        ("digits?mean=0.1,0.2&std=1,1", r"are 1 numbers each, .* got \(0\.1, 0\.2\)"),
        ("digits?mean=0.1&std=0", "deviations above 0"),
        ("digits?mean=nan&std=1", "deviations above 0"),
    ],
)
def test_what_is_no_scaling_is_refused(name, message):
    with pytest.raises(DataError, match=message):
        load(name)
