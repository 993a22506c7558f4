"""Several objectives: which points no other beats, going on after a kill, picking one."""

import csv
import dataclasses
import json

import pytest

from experiments import cli
from experiments.records.history import read_history, unbeaten
from experiments.run import recorded
from experiments.settings.blocks import SettingsError
from experiments.settings.launching import LaunchBlock
from experiments.studies.pareto import front as pareto
from experiments.studies.pareto.report import write_pareto_report
from experiments.studies.pareto.settings import ParetoSettings
from pfrl.compression.policy import Policy
from pfrl.data import Dataset
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.tasks import Classification

EPISODE = EpisodeConfig(steps=1, batch=16, search_images=60, statistics_images=16, validation="xla")


def settings(out, **changes) -> ParetoSettings:
    plain = ParetoSettings(
        limits=(0.4, 0.7),
        agent="random",
        episodes=4,
        latency=False,
        launch=LaunchBlock(workers=1),
        candidates=2,
        rescore_steps=2,
        episode=EPISODE,
        out=out,
    )
    return dataclasses.replace(plain, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A directory of uninterrupted searches."""
    out = tmp_path_factory.mktemp("whole") / "run"
    pareto.run(settings(out))
    return out


def rows(out):
    with open(out / "pareto.csv") as stream:
        return list(csv.DictReader(stream))


def point(accuracy, latency, size):
    return accuracy, -latency, -size


def test_what_no_other_beats():
    points = [
        point(0.9, 2.0, 50),  # the most accurate
        point(0.8, 1.0, 40),  # the fastest
        point(0.8, 1.0, 45),  # the same, larger
        point(0.7, 3.0, 10),  # the smallest
        point(0.7, 3.0, 10),  # the same again
        point(0.6, 1.5, 45),  # beaten in everything
    ]
    assert unbeaten(points) == [0, 1, 3]
    assert unbeaten([(a, b) for a, _, b in points]) == [0, 1, 3]
    assert unbeaten(points[1:2]) == [0]


def test_every_limit_has_its_evaluations_and_holds(whole):
    for limit in (0.4, 0.7):
        lines = read_history(whole / f"limit-{limit:.2f}" / "history.jsonl")
        assert [line["episode"] for line in lines] == [0, 1, 2, 3]
    *found, base = rows(whole)
    assert base["row"] == "base" and len(found) >= 3
    for line in found:
        share = float(line["target"].removeprefix("macs="))
        assert float(line["macs"]) <= share * float(base["macs"])
    numbered = [line["row"] for line in found if line["row"]]
    assert numbered == [str(number) for number in range(1, len(numbered) + 1)]
    best = max(float(line["held_out_accuracy"]) for line in found)
    assert best in [float(line["held_out_accuracy"]) for line in found if line["row"]]
    page = (whole / "pareto.md").read_text()
    assert " --pick 1" in page and "| base |" in page
    assert (whole / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert not (whole / "policy.json").exists()
    assert (whole / "evaluations.sqlite").stat().st_size > 0


def test_a_stopped_search_ends_as_one_that_was_not(whole, tmp_path, monkeypatch):
    out, append = tmp_path / "run", recorded.append_line

    def stopped(history, line):
        append(history, line)
        if history.parent.name == "limit-0.70" and line["episode"] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(recorded, "append_line", stopped)
    with pytest.raises(KeyboardInterrupt):
        pareto.run(settings(out))
    monkeypatch.undo()
    with open(out / "limit-0.70" / "history.jsonl", "a") as stream:
        stream.write('{"episode": 2, "pha')  # what a kill in mid-line leaves
    pareto.run(settings(out))
    assert rows(out) == rows(whole)


def test_what_is_picked_is_the_row_of_the_table(whole, monkeypatch):
    # Nothing is evaluated again for it, and no test image is seen.
    for name in ("evaluate", "score"):
        monkeypatch.setattr(NetworkEvaluator, name, None)
    monkeypatch.setattr(Dataset, "augment", None)
    policy, page = pareto.run(settings(whole, pick=1))
    first = rows(whole)[0]
    assert policy == whole / "policy.json" and first["picked"] == "1"
    picked = Policy.from_json(json.loads(policy.read_text()))
    (points,) = [
        line["points"]
        for line in read_history(whole / "results.jsonl")
        if f"macs={line['limit']}" == first["target"]
    ]
    assert picked.to_json() in [entry["policy"] for entry in points]
    assert "1 ★" in page.read_text()
    with pytest.raises(SettingsError, match="there is no row 99; pick one of 1 to"):
        pareto.run(settings(whole, pick=99))


def test_searches_are_not_mixed(whole):
    with pytest.raises(SettingsError, match="episodes was 4"):
        pareto.run(settings(whole, episodes=5))
    with pytest.raises(SettingsError, match="latency was False, now it is True"):
        pareto.run(settings(whole, latency=True))


def test_the_report_of_a_metric_that_nobody_has_described(tmp_path):
    def entry(accuracy, cost, **more):
        costs = {"weights_kept": cost, "bytes": 10 * cost}
        return {"held_out_accuracy": accuracy, "costs": costs, **more}

    found = {"episode": 1, "search_accuracy": 0.9, "target": "weights_kept=0.5", "policy": {}}
    result = {
        "settings": {"model": "m", "data": "d", "metric": "weights_kept", "agent": "random",
                     "episodes": 2, "seed": 0, "rescore_steps": 1},
        "task": Classification.wording._asdict(),
        "commands": ["pfrl pareto"],
        "limits": [0.5],
        "objectives": ["bytes"],
        "base": entry(0.9, 100, images=50),
        "points": [entry(0.8, 40, **found), entry(0.7, 50, **found)],
        "front": [0],
        "pick": None,
    }  # fmt: skip
    page = write_pareto_report(tmp_path, result).read_text()
    assert "at most 50 % of the base network's weights kept" in page.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "resnet9"], "unknown model 'resnet9'"),
        (["--agent", "dqn"], "unknown agent 'dqn'"),
        (["--limits", "1.5"], "limits is a number above 0 and up to 1, got 1.5"),
        (["--limits", "0.5", "0.501"], "limits differ"),
        (["--limits", "0.5", "0.001", "--no-latency"], "cannot be met"),
        (["--metric", "latency", "--no-latency"], "needs its model"),
        (["--pick", "0"], "pick is a whole number from 1, got 0"),
        (["--episodes", "0"], "episodes"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(arguments, sentence, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["pareto", "--out", str(out), *arguments]) == cli.USER_ERROR
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pfrl:")]
    assert len(told) == 1 and sentence in told[0]
    assert not out.exists()
