"""Intervals against values worked out by hand, and how numbers are written."""

import numpy as np
import pytest

from experiments.records.wording import cost, duration, number, points
from experiments.report.intervals import StatisticsError, accuracy_interval, paired_difference


def test_paired_difference_worked_by_hand():
    # 10 images: a alone is right on 3, b alone on 1.
    a = np.array([1, 1, 1, 0, 1, 1, 1, 0, 0, 0], bool)
    b = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0], bool)
    # Wald+2: centre 2/12; variance (3 + 1 + 1 - 2² / 12) / 12² = (14 / 3) / 144.
    margin = 1.959964 * (14 / 3 / 144) ** 0.5
    assert paired_difference(a, b) == pytest.approx((0.2, 1 / 6 - margin, 1 / 6 + margin))
    assert paired_difference(b, a) == pytest.approx((-0.2, -1 / 6 - margin, -1 / 6 + margin))


def test_equal_networks_differ_by_zero_with_some_doubt():
    correct = np.ones(98, bool)
    # No discordant image: variance 1 / 100², margin 0.0196.
    assert paired_difference(correct, correct) == pytest.approx((0, -0.01959964, 0.01959964))


def test_paired_difference_stays_between_minus_one_and_one():
    difference = paired_difference(np.ones(3, bool), np.zeros(3, bool))
    assert difference.difference == difference.high == 1
    assert -1 < difference.low < 1


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_paired_difference_rejects_what_is_not_paired(shapes):
    with pytest.raises(StatisticsError, match="expected two"):
        paired_difference(np.zeros(shapes[0], bool), np.zeros(shapes[1], bool))


def test_wilson_interval_worked_by_hand():
    # z² = 3.841459: centre (8 + z²/2) / (10 + z²), margin z·√(8·2/10 + z²/4) / (10 + z²).
    z2 = 3.841459
    centre, margin = (8 + z2 / 2) / (10 + z2), (z2 * (1.6 + z2 / 4)) ** 0.5 / (10 + z2)
    assert accuracy_interval(8, 10) == pytest.approx((centre - margin, centre + margin))
    with pytest.raises(StatisticsError, match="11 correct of 10"):
        accuracy_interval(11, 10)


def test_numbers_are_written_for_people():
    assert [number(x) for x in (20.44, 0.8617, 1240.4, -2.066, 0, None, float("nan"))] == [
        "20.4",
        "0.862",
        "1240",
        "−2.07",
        "0",
        "–",
        "–",
    ]
    assert cost("macs", 31_021_440) == "31.0 M"
    assert cost("bytes", 1_104_882) == "1.10 MB"
    assert cost("bytes", 1_000) == "1.00 kB"
    assert cost("latency", 0.8617) == "0.862 ms"
    assert cost("params", 90) == "90.0"
    assert points(-0.0041) == "−0.41"
    assert [duration(s) for s in (4.25, 187, 7500)] == ["4.2 s", "3:07 min", "2:05 h"]
