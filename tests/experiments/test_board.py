"""A search in TensorBoard and in the terminal: every episode once, and readable."""

import io
import logging
import re
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from experiments.records.history import read_history
from experiments.report.studies.figures import best_accuracies
from experiments.watch.board import About, Board
from experiments.watch.dashboard import BAND, LAYOUT
from experiments.watch.plan import Stage, planned
from experiments.watch.progress import SearchProgress, stage
from experiments.watch.summary import write_summary
from pfrl.files import FileError
from tests.support.invented_run import episode_line
from tests.support.invented_study import write_sweep


def scalars(directory, tag):
    events = EventAccumulator(str(directory))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(f"pfrl/{tag}")]


def pictures_of(directory):
    events = EventAccumulator(str(directory), size_guidance={"images": 0})
    events.Reload()
    return [event.step for event in events.Images("pfrl/policy")]


def a_second_later():
    """Files are read in the order of their names, which begin with the second of their start."""
    now = int(time.time())
    while int(time.time()) == now:
        time.sleep(0.02)


def test_board_writes_scalars_and_the_best_policy(tmp_path):
    board = Board(tmp_path, clock=lambda: 0.0)
    best = episode_line(0, 0.5, 10)
    board.episode(best, best)
    board.episode(episode_line(1, float("nan"), 12, reward=-9.0, diverged=True), best)
    for index in range(2, 7):
        board.episode(episode_line(index, 0.4, 12), best)
    # Nothing is closed: a killed search has what was written.
    assert scalars(tmp_path, "cost_macs")[:3] == [(0, 10), (1, 12), (2, 12)]
    assert scalars(tmp_path, "accuracy")[:2] == [(0, 0.5), (2, pytest.approx(0.4))]
    assert scalars(tmp_path, "diverged")[:3] == [(0, 0), (1, 1), (2, 0)]
    assert scalars(tmp_path, "best_reward")[-1] == (6, 0.5)
    assert scalars(tmp_path, "reward")[1] == (1, -9)
    assert len(scalars(tmp_path, "seconds")) == len(scalars(tmp_path, "best_accuracy")) == 7
    assert pictures_of(tmp_path) == [0, 5]
    board.close()


def test_board_draws_a_new_best_policy_unless_it_just_drew_one(tmp_path):
    now = [0.0]
    board = Board(tmp_path, picture_every=100, clock=lambda: now[0])
    for index in range(5):
        now[0] = 4.0 * index
        line = episode_line(index, 0.1 * index, 10)
        board.episode(line, line)
    assert pictures_of(tmp_path) == [0, 3]
    board.close()
    assert pictures_of(tmp_path) == [0, 3, 4]


def test_a_resumed_board_has_every_episode_once(tmp_path):
    board = Board(tmp_path)
    for index in range(4):
        board.episode(episode_line(index, 0.1, 10), episode_line(0, 0.1, 10))
    board.close()
    a_second_later()
    resumed = Board(tmp_path, first_episode=3)
    for index in range(6):
        board_line = episode_line(index, 0.2, 10)
        resumed.episode(board_line, board_line)
    resumed.close()
    values = scalars(tmp_path, "accuracy")
    assert values == [(i, pytest.approx(0.1 if i < 3 else 0.2)) for i in range(6)]


def test_board_in_an_impossible_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write the TensorBoard log"):
        Board(tmp_path / "file" / "tb")


ABOUT = About({"agent": "ddpg", "seed": 0}, "macs", 20.0, 40.0)


def loaded(directory):
    events = EventAccumulator(str(directory), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


def test_an_agents_own_values_share_the_run_and_its_steps(tmp_path):
    line = episode_line(0, 0.5, 10)
    for first in (0, 1):
        board = Board(tmp_path, first_episode=first)
        for index in (0, 1):
            board.episode({**line, "episode": index}, line)
            board.add_scalar("train/actor_loss", 0.25 + first, index)
        board.close()
        a_second_later()
    found = loaded(tmp_path).Scalars("train/actor_loss")
    assert [(event.step, event.value) for event in found] == [(0, 0.25), (1, 1.25)]


def test_a_board_tells_what_is_spent_of_the_budget_and_how_fast_it_goes(tmp_path):
    """An episode takes six seconds: ten a minute. The limit is 20."""
    now = [0.0]
    board = Board(tmp_path, clock=lambda: now[0], about=ABOUT)
    for index in range(3):
        now[0] += 6.0
        board.episode(episode_line(index, 0.5, 10 + index), episode_line(0, 0.5, 10))
    board.close()
    assert scalars(tmp_path, "budget_spent") == [
        (i, pytest.approx(0.5 + 0.05 * i)) for i in (0, 1, 2)
    ]
    assert scalars(tmp_path, "evaluations_per_minute") == [(i, 10.0) for i in (0, 1, 2)]
    assert [event.step for event in loaded(tmp_path).Images("pfrl/all_networks")] == [0, 2]
    assert board.seconds > 0


def test_hyper_parameters_and_their_metrics_are_what_the_plugin_reads(tmp_path):
    board = Board(tmp_path, about=ABOUT)
    board.episode(episode_line(0, 0.5, 10), episode_line(0, 0.5, 10))
    board.close()
    contents = loaded(tmp_path).PluginTagToContent("hparams")
    experiment = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG])
    assert [each.name for each in experiment.hparam_infos] == ["agent", "seed"]
    tags = [each.name.tag for each in experiment.metric_infos]
    assert "pfrl/best_accuracy" in tags and set(tags) <= set(loaded(tmp_path).Tags()["scalars"])
    started = metadata.parse_session_start_info_plugin_data(
        contents[metadata.SESSION_START_INFO_TAG]
    )
    assert started.hparams["agent"].string_value == "ddpg"
    assert metadata.SESSION_END_INFO_TAG in contents
    assert "settings/text_summary" in loaded(tmp_path).Tags()["tensors"]


def test_the_first_page_names_tags_that_a_search_writes(tmp_path):
    board = Board(tmp_path, about=ABOUT)
    board.episode(episode_line(0, 0.5, 10), episode_line(0, 0.5, 10))
    board.close()
    tags = loaded(tmp_path).Tags()["scalars"]
    for _, wanted in next(iter(LAYOUT.values())).values():
        assert all(any(re.match(each, tag) for tag in tags) for each in wanted)
    assert "custom_scalars__config__" in loaded(tmp_path).Tags()["tensors"]


def test_a_finished_study_has_bands_and_a_summary(tmp_path):
    folder = write_sweep(tmp_path / "sweep", targets=("macs=0.5",))
    for _ in range(2):  # written again, they stand there once
        write_summary(folder)
    histories = [
        best_accuracies(read_history(folder / f"macs=0.5/ddpg/seed-{seed}/history.jsonl"))
        for seed in (0, 1, 2)
    ]
    found = loaded(folder / "macs=0.5" / "ddpg" / "all-seeds")
    for tag, what in zip(BAND, (np.mean, np.min, np.max), strict=True):
        values = [event.value for event in found.Scalars(tag)]
        assert values == pytest.approx(what(np.stack(histories), 0).tolist())
    tags = loaded(folder / "summary").Tags()
    assert {"results/text_summary", "commands/text_summary"} <= set(tags["tensors"])
    assert set(tags["images"]) == {"pfrl/curves", "pfrl/policies-1"}


class Clock:
    """A second passes between any two looks at it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


def test_progress_without_a_terminal_is_a_line_every_tenth():
    stream = io.StringIO()
    best = episode_line(3, 0.9, 9e6)
    with SearchProgress(40, "macs", 10e6, stream=stream, clock=Clock()) as progress:
        for index in range(40):
            progress.episode(episode_line(index, 0.8, 10e6, reward=-1.0), best)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == (
        "search: 4/40 episodes, 36.0 s left; last 80.0 % (reward −1.00), 10.0 M of at most"
        " 10.0 M MACs; best 90.0 % (episode 3)"
    )
    assert lines[-1].startswith("search: 40/40 episodes, in 40.0 s;")


def test_progress_of_a_resumed_search_begins_where_it_stopped(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    line = episode_line(0, float("nan"), 10, diverged=True)
    with SearchProgress(4, "latency", first_episode=2, stream=stream) as progress:
        for index in range(4):
            progress.episode({**line, "episode": index}, line)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert [part.split(",")[0] for part in text.splitlines()] == [
        "search: 3/4 episodes",
        "search: 4/4 episodes",
    ]
    assert "last diverged, 0.900 ms; best diverged" in text


def test_a_stage_takes_the_updates_of_a_training():
    stream = io.StringIO()
    with stage("fine-tuning", 3, stream=stream, clock=Clock()) as update:
        update(1, 3, 2.5)
        update(3, 3, 0.25)
    assert stream.getvalue() == (
        "fine-tuning: 1/3 steps, 2.0 s left; loss 2.50\n"
        "fine-tuning: 3/3 steps, in 2.0 s; loss 0.250\n"
    )


def test_what_the_library_logs_is_shown_where_nothing_else_was_for_a_while():
    """One second a look at the clock: at the tenth a line is due, and ten later again."""
    log, stream = logging.getLogger("pfrl.data.pictures"), io.StringIO()
    log.info("nobody listens")
    with stage("loading", stream=stream, clock=Clock()):
        for count in range(25):
            log.info("reading pictures: %d of 25", count + 1)
    log.info("nor now")
    assert not log.isEnabledFor(logging.INFO)
    shown = stream.getvalue().splitlines()
    assert shown[0] == "loading ..."
    assert shown[1:] == [
        "loading: reading pictures: 10 of 25",
        "loading: reading pictures: 20 of 25",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_more_than_news_is_shown_at_once(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal() if terminal else io.StringIO()
    with stage("compiling", stream=stream):
        logging.getLogger("pfrl.evaluation").log(logging.INFO + 5, "images [of] another kind")
        logging.getLogger("pfrl.evaluation").info("news")
    assert "images [of] another kind\n" in stream.getvalue()
    assert "news" not in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with SearchProgress(2, "macs", 10e6, stream=stream) as progress:
        for index in range(2):
            line = episode_line(index, 0.5, 10e6)
            progress.episode(line, line)
    text = stream.getvalue()
    assert "━" in text and "2/2" in text and "best 50.0 % (episode 1)" in text
    assert text.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_a_planned_run_says_what_is_left_of_all_its_stages():
    """One second an update: 10 episodes, then 20 steps of a known pace, and 30 s of measuring."""
    stream = io.StringIO()
    plan = [
        Stage("warming", 2, "steps"),
        Stage("search", 10, "episodes"),
        Stage("training", 20, "steps"),
    ]
    with planned([*plan, Stage("measuring", 30)]):
        with stage("search", 10, stream=stream, clock=Clock()) as update:
            update(1, 10)
            update(2, 10)
        with stage("training", 20, stream=stream, clock=Clock()) as update:
            update(2, 20)
            update(4, 20)
    with stage("measuring", stream=stream):
        pass
    *counted, last = stream.getvalue().splitlines()
    assert last == "measuring ..."
    whole = [line.partition(" left, ")[2] for line in counted]
    assert whole == [
        "at least 39.0 s in all",  # 9 s, and nothing is known of steps yet
        "at least 38.0 s in all",
        "39.0 s in all",  # 18 steps at half a second
        "38.0 s in all",
    ]
