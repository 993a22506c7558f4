"""What is shown of many runs, and how long they will take."""

import io

import pytest

from experiments.watch.runs import RunsTable, Status


class Clock:
    """Seconds that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that redraws."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock():
    return Clock()


def table(clock, names, room=2, expected=None, stream=None):
    return RunsTable(names, "runs", lambda: room, expected, stream or io.StringIO(), clock)


def test_nothing_is_known_before_the_first_run_has_begun_to_count(clock):
    shown = table(clock, ["a", "b", "c", "d"])
    shown.begun(0)
    assert shown.left() is None


def test_the_time_left_follows_from_runs_that_ended_and_from_those_on_their_way(clock):
    shown = table(clock, ["a", "b", "c", "d"])
    shown.begun(0)
    shown.begun(1)
    clock.now = 10.0
    shown.look({1: Status("core 1", 5, 20)})
    # The second takes 40 s at its pace, 30 of which are left, and so do the others, one of which
    # has had 10 s: (30 + 30 + 40 + 40) / 2 workers.
    assert shown.left() == 70.0
    shown.ended(0)
    # The usual run now takes (10 + 40) / 2 = 25 s: (30 + 25 + 25) / 2.
    assert shown.left() == 40.0


def test_what_is_expected_counts_before_anything_has_run(clock):
    assert table(clock, ["a", "b", "c"], 2, [10.0, 20.0, 60.0]).left() == 60.0
    assert table(clock, ["a", "b", "c"], 1, [10.0, 20.0, 60.0]).left() == 90.0


def test_nothing_is_said_to_be_left_where_the_last_run_takes_longer_than_was_thought(clock):
    stream = io.StringIO()
    shown = table(clock, ["a", "b"], 1, None, stream)
    shown.begun(0)
    clock.now = 70.0
    shown.ended(0)
    shown.begun(1)
    clock.now = 100.0
    assert shown.left() == 40.0
    clock.now = 170.0
    assert shown.left() is None
    shown.look({1: Status("core 1", 0, 0)})
    assert "left" not in stream.getvalue().splitlines()[-1]


def test_a_log_has_a_line_for_each_long_run_and_for_what_went_wrong(clock):
    stream = io.StringIO()
    with table(clock, ["a", "b", "c"], stream=stream) as shown:
        shown.begun(0)
        shown.look({0: Status("core 3", 0, 0)})
        clock.now = 60.0
        shown.ended(0)
        shown.begun(1)
        shown.look({1: Status("core 3", 1, 4)})
        shown.lost(1)
        shown.begun(1)
        clock.now = 120.0
        shown.ended(1)
        shown.begun(2)
        shown.failed(2, ValueError("no such layer"))
    assert stream.getvalue().splitlines() == [
        "runs: 1/3, 1:00 min left; a done in 1:00 min, core 3",
        "runs: 1/3, 1:00 min left; b lost its worker (core 3), another one takes it up",
        "runs: 2/3, 1:00 min left; b done in 1:00 min, core 3",
        "runs: 3/3, in 2:00 min; c failed: no such layer",
    ]


def test_a_log_says_after_a_minute_of_silence_how_far_the_runs_are(clock):
    stream = io.StringIO()
    with table(clock, ["a", "b", "c"], stream=stream) as shown:
        shown.begun(0)
        shown.begun(1)
        for clock.now in range(0, 121, 30):
            far = Status("core 1", 4, 4)
            if clock.now >= 60:  # fine-tuned from then on: 1,000 steps a minute
                far = Status("core 1", round((clock.now - 60) / 60 * 1_000), 2_000, 1)
            shown.look({0: far, 1: Status("core 0", 0, 0)})
    assert stream.getvalue().splitlines() == [
        "runs: 0/3; a fine-tuning 0/2,000; b",
        # The first will have taken 180 s, 60 of which are left, and so will the others:
        # (60 + 60 + 180) / 2 workers, but the last alone takes longer.
        "runs: 0/3, 3:00 min left; a fine-tuning 1,000/2,000; b",
    ]


def test_many_short_runs_are_a_line_for_each_tenth(clock):
    stream = io.StringIO()
    with table(clock, [str(n) for n in range(40)], stream=stream) as shown:
        for number in range(40):
            shown.begun(number)
            clock.now += 0.1
            shown.ended(number)
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        f"runs: {number}/40" for number in range(4, 44, 4)
    ]


def test_a_terminal_has_a_table_with_running_ones_first(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with table(clock, ["first", "second", "third"], stream=stream) as shown:
        shown.begun(0)
        clock.now = 5.0
        shown.ended(0)
        shown.begun(1)
        shown.look({1: Status("10.0.0.2, core 7", 3, 8)})
    last = stream.getvalue().rsplit("runs", 2)[-2]
    assert last.index("second") < last.index("first") < last.index("third")
    assert "3/8" in last and "10.0.0.2, core 7" in last
