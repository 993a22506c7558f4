"""``pfrl sweep``: all searches with equal evaluation budgets, going on without loss, in a table."""

import csv
import json
import math
import re
import shutil
from typing import Any, cast

import numpy as np
import pytest

from experiments import cli
from experiments.records.history import read_history
from experiments.report.intervals import StatisticsError, mean_interval
from experiments.run import latency
from experiments.settings.blocks import NetworkBlock
from experiments.studies.sweep import curves, pace
from experiments.studies.sweep.settings import SweepSettings
from experiments.studies.sweep.table import page, write_results
from pfrl.evaluation import short_training
from pfrl.evaluation.cache import EvaluationCache
from pfrl.evaluation.config import EpisodeConfig
from pfrl.models.catalogue import pretrained_path

QUICK = [
    *("sweep", "--model", "resnet8", "--data", "digits", "--seeds", "0", "1", "--workers", "1"),
    *("--images", "300", "--tuning-images", "64", "--recipe.images", "64", "--episode.batch", "32"),
    *("--episode.search-images", "60", "--episode.statistics-images", "32"),
    *("--episode.validation", "xla", "--agents", "uniform", "random", "--targets", "macs=0.5"),
]
WALL_CLOCK = {"evaluation_seconds", "agent_seconds", "curve", "hits", "job_seconds"}


def without_clock(lines):
    return [{k: v for k, v in line.items() if k not in WALL_CLOCK} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    assert cli.main([*QUICK, "--out", str(out)]) == 0
    return out


def test_a_plan_counts_evaluations_and_the_fine_tuning(tmp_path, monkeypatch, capsys):
    """An evaluation of 2 s, and steps of a quarter: 3 of the one, 8 of the other."""
    monkeypatch.setattr(pace, "_pace", lambda *_: pace.Pace(2.0, 100, 0.25))
    out = tmp_path / "sweep"
    words = [*QUICK, "--tuning-images", "256", "--dry-run", "--out", str(out)]
    assert cli.main(words) == 0
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[1], line[4]) for line in said if line and line[0] == "macs=0.5"] == [
        *(("uniform", "4.0"), ("random", "8.0"), ("uniform", "4.0"), ("random", "8.0"))
    ]
    assert said[-1] == "about 24.0 s in all".split() and not out.exists()


def test_a_pace_is_measured(monkeypatch):
    """By the clock between two words of the fine-tuning, which takes some steps."""
    settings = SweepSettings(
        network=NetworkBlock("resnet8", "digits"),
        episode=EpisodeConfig("reconstruct", search_images=60, statistics_images=32, batch=8),
        tuning_images=80,
    ).resolved()
    monkeypatch.setattr(pace, "TELL_EVERY", 2)
    monkeypatch.setattr(short_training, "TELL_EVERY", 2)
    weights = str(pretrained_path("resnet8", "digits"))
    found = pace._pace(pace.task_of(settings, weights), 0.02)
    assert found.images == 92 and 0 < found.step < 1 and 0 < found.evaluation < 10
    expected = found.evaluation + 10 * found.step
    monkeypatch.setattr(pace, "_pace", lambda *_: found)
    assert pace.seconds_of(settings, weights, "uniform") == pytest.approx(expected)


def test_every_search_has_its_history_its_line_and_its_row(whole):
    lines = read_history(whole / "results.jsonl")
    assert [(line["agent"], line["seed"]) for line in lines] == [
        *(("uniform", 0), ("random", 0), ("uniform", 1), ("random", 1))
    ]
    for line in lines:
        history = read_history(
            whole / "macs=0.5" / line["agent"] / f"seed-{line['seed']}/history.jsonl"
        )
        assert len(history) == line["episodes"] == (1 if line["agent"] == "uniform" else 3)
        assert line["search_accuracy"] == max(each["accuracy"] for each in history)
        assert line["cost"] <= line["limit"]
        # Of 300, of which each takes 32 for statistics and 60 to judge; from the cache or not.
        assert [each["images"] for each in history] == [92] * len(history)
        assert 0 < line["test_accuracy"] <= 1
    with (whole / "search.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert sorted((row["agent"], row["seed"]) for row in rows) == sorted(
        (line["agent"], str(line["seed"])) for line in lines
    )
    text = (whole / "search.md").read_text().replace("\u00a0", " ")
    assert re.search(r"^\| random \| 2 \| 3 \| [0-9.]+ ± [0-9.]+ \|", text, re.M)
    assert "\n- `pfrl" in text


def test_what_is_missing_is_done_and_ends_the_same(whole, tmp_path, capsys):
    """As after a kill within a search and before the line of another."""
    expected = without_clock(read_history(whole / "results.jsonl"))
    lines = (whole / "results.jsonl").read_text().splitlines(keepends=True)
    shutil.copy(whole / "config.json", tmp_path)
    (tmp_path / "results.jsonl").write_text("".join(lines[:2]) + lines[2][:30])
    begun = tmp_path / "macs=0.5" / "random" / "seed-1" / "history.jsonl"
    begun.parent.mkdir(parents=True)
    history = (whole / "macs=0.5" / "random" / "seed-1" / "history.jsonl").read_text()
    begun.write_text(history.splitlines(keepends=True)[0])
    assert cli.main([*QUICK, "--out", str(tmp_path)]) == 0
    assert without_clock(read_history(tmp_path / "results.jsonl")) == expected
    assert "2 of 4 searches" in capsys.readouterr().err


@pytest.mark.ci
def test_limits_of_latency_are_of_one_model_that_is_measured_once(tmp_path, monkeypatch):
    """At the start; every search keeps to what it predicts, and another start reads it again."""
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(latency, "SECONDS", 0.05)
    monkeypatch.setattr(latency, "NETWORKS", 2)
    words = [*QUICK, "--latency-runtime", "litert", "--out", str(tmp_path / "run")]
    words[words.index("macs=0.5")] = "latency=0.8"
    assert cli.main(words) == 0
    table = json.loads((tmp_path / "run" / "latency.json").read_text())
    assert table["table"]["runtime"] == "litert"
    for line in read_history(tmp_path / "run" / "results.jsonl"):
        assert 0 < line["cost"] <= line["limit"]
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(latency, "measure_table", None)
    words[words.index("random")] = "shallow"
    assert cli.main(words) == 0
    assert json.loads((tmp_path / "run" / "latency.json").read_text()) == table


def test_searches_share_the_evaluations_of_one_file(whole):
    """The uniform policy is evaluated once, for both seeds."""
    assert EvaluationCache(whole / "evaluations.sqlite", "no problem").get("k") is None
    lines = read_history(whole / "results.jsonl")
    assert [line["hits"] for line in lines if line["agent"] == "uniform"] == [0, 1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--agents", "oracle"], "unknown agent 'oracle'; expected one of cmaes, ddpg, "),
        (["--targets", "macs=3"], "a limit of 3 MACs cannot be met"),
        (["--episodes", "0"], "episodes is a whole number from 1"),
        (["--episodes", "3"], "--episodes and --images both say how long"),
        (["--images", "91"], "one evaluation looks at 92 images; --images is at least that"),
        (["--seeds", "-1"], "seeds is a whole number from 0, got -1"),
    ],
)
def test_wrong_input_is_one_sentence(words, told, tmp_path, capsys):
    assert cli.main([*QUICK, "--out", str(tmp_path / "new"), *words]) == 2
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("pfrl: ")]
    assert len(said) == 1 and told in said[0]
    assert not (tmp_path / "new").exists()


def line(agent, seed, search, test):
    return {
        "target": "macs=0.5", "agent": agent, "seed": seed, "episodes": 9, "best": 1,
        "search_accuracy": search, "test_accuracy": test, "cost": 1, "limit": 1,
        "evaluation_seconds": 57.0, "agent_seconds": 3.0, "hits": 0, "runtime": "onnx",
        "images": 900, "curve": [[1, 100, 7.0, search - 0.1], [2, 200, 14.0, search]],
    }  # fmt: skip


FACTS = {
    "commands": ["pfrl sweep --one", "pfrl sweep --two"],
    "machine": {"cpu": "Some CPU", "instruction_set": "avx2", "cores": 2},
}


def test_cells_are_means_with_students_interval():
    """Of two seeds: 12.7062 · s / sqrt(2); 0.72 and 0.76 differ by 0.04, so s = 0.02828."""
    lines = [
        *(line("tpe", 0, 0.72, 0.7), line("tpe", 1, 0.76, 0.7)),
        *(line("random", 0, 0.70, 0.7), line("random", 1, 0.70, 0.7)),
        *(line("ddpg", 0, 0.73, 0.8), line("ddpg", 1, 0.77, 0.8)),
        line("uniform", 0, 0.90, 0.8),
    ]
    rows = page(lines, FACTS).replace("\u00a0", " ").splitlines()
    assert "difference to tpe" in rows[2]
    # The rule is the best, and is no searcher to compare with.
    assert rows[4].startswith(
        "| uniform | 1 | 9 | 90.00 | 80.00 | +18.00 | 7.00 | 100 | 1.0 | 5.0% |"
    )
    assert rows[5].startswith("| ddpg | 2 | 9 | 75.00 ± 25.41 | 80.00 ± 0.00 | +1.00 ± 0.00 |")
    assert rows[6].startswith("| tpe | 2 | 9 | 74.00 ± 25.41 | 70.00 ± 0.00 |  |")
    assert rows[7].startswith("| random | 2 | 9 | 70.00 ± 0.00 | 70.00 ± 0.00 | -4.00 ± 25.41 |")
    assert "- `pfrl sweep --two`" in rows


def test_the_table_is_made_from_the_lines(tmp_path):
    paths = write_results(tmp_path, [line("random", 0, 0.5, 0.5)], FACTS)
    assert [path.name for path in paths] == [
        *("search.csv", "search.md", "progress.csv", "progress.png")
    ]
    assert "| random | 1 | 9 | 50.00 | 50.00 |  | 14.0 | 200 |" in paths[1].read_text()
    with paths[2].open() as stream:
        last = list(csv.DictReader(stream))[-1]
    assert (last["agent"], last["images"], last["seconds"]) == ("random", "200", "14.0")
    assert paths[3].stat().st_size > 10_000


class Clock:
    """An evaluator that has spent a second before, and may spend more."""

    def __init__(self):
        self.seconds = {"training": 1.0}


def test_a_curve_charges_what_came_from_the_cache(monkeypatch):
    """Two evaluations of 5 s and 100 images, the second from the cache; and 2 s of an agent."""
    now, clock = [50.0], Clock()
    monkeypatch.setattr(curves.time, "perf_counter", lambda: now[0])
    curve = curves.Curve(cast(Any, clock))
    clock.seconds["training"], now[0] = 6.0, 57.0
    first = {"images": 100, "seconds": 5.0, "accuracy": 0.5}
    curve.episode(first, first)
    now[0] = 59.0
    curve.episode({**first, "accuracy": 0.4}, first)
    assert curve.ended() == [(1, 100, 7.0, 0.5), (2, 200, 14.0, 0.5)]
    assert curve.outside == 4.0


def test_what_an_accuracy_takes_is_of_the_median_search():
    def rising(*steps):
        return [[n, 10 * n, 2.0 * n, accuracy] for n, accuracy in steps]

    searches = [rising((1, 0.5), (4, 0.8)), rising((2, 0.7), (6, 0.7)), rising((1, 0.1), (9, 0.9))]
    # Reached after 4 evaluations, never, and after 9.
    assert curves.taken(searches, 0.75) == (9, 90, 18.0)
    assert curves.taken(searches[:1], 0.75) == (4, 40, 8.0)
    assert curves.taken(searches, 0.95).seconds == math.inf
    assert curves.common_accuracy([[0.8, 0.7], [0.9, 0.7]]) == 0.75
    found = curves.at(searches[0], "images", np.array([0, 10, 39, 40, 80]))
    np.testing.assert_array_equal(found, [np.nan, 0.5, 0.5, 0.8, 0.8])


def test_an_interval_needs_values():
    assert mean_interval([0.5]) == (0.5, None)
    mean, margin = mean_interval([1.0, 2.0, 3.0])
    # 4.302653 · 1 / sqrt(3)
    assert (mean, margin) == (2.0, pytest.approx(2.484138, abs=1e-6))
    with pytest.raises(StatisticsError, match="got no values"):
        mean_interval([])
