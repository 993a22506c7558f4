"""Work shared out among processes: every result, errors as they are, a core for each."""

import os

import pytest

from experiments.workers import cores, share_out


class Refused(Exception):
    """What a job may raise."""


def square(number):
    if number < 0:
        raise Refused(f"{number} is below 0")
    return number * number, os.getpid(), len(cores())


def test_one_worker_is_this_process_in_order():
    found = list(share_out(square, [3, 1, 2], 1))
    assert [value for value, _, _ in found] == [9, 1, 4]
    assert {process for _, process, _ in found} == {os.getpid()}


def test_several_workers_have_a_core_each():
    found = list(share_out(square, range(6), 2))
    assert sorted(value for value, _, _ in found) == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {process for _, process, _ in found}
    pinned = hasattr(os, "sched_setaffinity")
    assert {count for _, _, count in found} == {1 if pinned else os.cpu_count()}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_error_of_a_job_comes_out(workers):
    with pytest.raises(Refused, match="-1 is below 0"):
        list(share_out(square, [-1, 2], workers))
