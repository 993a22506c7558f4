"""``pfrl ablate``: the registry, the list, a small run that goes on, and the scripts of tables."""

import json
import os
from dataclasses import fields
from pathlib import Path

import pytest

from agents import AGENTS
from envs import Problem
from envs.rewards import REWARDS
from experiments import cli
from experiments.ablations.experiment import EXPERIMENTS, SCALES, Cell, Experiment, changed, found
from experiments.ablations.listing import cost
from experiments.ablations.scales import at_scales
from experiments.ablations.scripts import FOLDER, script
from experiments.ablations.works import searching
from experiments.ablations.works.elsewhere import taken_over
from experiments.ablations.works.joined import ranks
from experiments.records.history import read_history
from experiments.report.studies.source import read_studies
from experiments.settings.blocks import SettingsError
from experiments.studies.pareto.comparison import EIGHT
from pfrl.registry import register

OURS = [
    *("agent-kinds", "agent-parts", "any-budget", "budgets", "devices", "features", "heuristics"),
    *("joint", "leakage", "limits", "macs-or-latency", "mixed-bits", "proxies", "rewards"),
    *("searchers", "sparsity-ratios", "trials"),
]


@pytest.mark.parametrize("name", OURS)
def test_an_experiment_is_sound_at_every_scale(name):
    """Its cells are named apart and name agents, options, settings and problems that there are."""
    experiment = EXPERIMENTS[name]
    assert set(experiment.scales) == set(SCALES)
    rows = []
    for scale in SCALES:
        settings = experiment.scales[scale]
        cells = experiment.cells(settings)
        rows.append([(cell.name, cell.agent) for cell in cells])
        assert len({cell.name for cell in cells}) == len(cells) > 1
        for cell in cells:
            agent = AGENTS[cell.agent]
            assert cell.options is None or isinstance(cell.options, agent.options or ())
            own = changed(settings, cell.changes)
            _ = REWARDS[own.reward]
            assert set(cell.problem) <= {each.name for each in fields(Problem)}
        known = {cell.agent if experiment.tasks else cell.name for cell in cells}
        assert experiment.against in known
        jobs = experiment.jobs(settings, 2)
        assert len(set(jobs)) == 2 * len(cells) and {job.seed for job in jobs} == {0, 1}
    # Scales differ in numbers alone, so the rows are the same.
    assert rows[0] == rows[1] == rows[2]
    if isinstance(experiment.work, str):
        assert callable(found(experiment.work))
    assert experiment.claim.endswith(".") and not experiment.lacks.endswith(".")


def test_a_search_at_every_limit_counts_as_often():
    experiment = EXPERIMENTS["any-budget"]
    assert experiment.limits == len(EIGHT)
    # Six methods, five seeds, eight limits, 15 evaluations at each.
    assert cost(experiment, "small", 5)["evaluations"] == 6 * 5 * 8 * 15


def test_all_are_listed_with_what_they_test_and_cost(capsys):
    assert cli.main(["ablate", "--list", "--json", "--seeds", "3"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert set(OURS) <= set(listed)
    one = listed["searchers"]
    assert one["cost"]["small"]["jobs"] == 3 * 7
    assert one["cost"]["small"]["evaluations"] == 3 * 7 * 60
    assert "AMC" in one["paper"] and one["claim"] and one["table"]
    assert cli.main(["ablate", "--list"]) == 0
    told = capsys.readouterr().out
    assert all(f"{name}: " in told for name in OURS)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "which experiment? name one, or see all of them with --list"),
        (["oracle"], "unknown experiment 'oracle'; expected one of agent-kinds"),
        (["searchers", "--seeds", "0"], "seeds is a whole number from 1, got 0"),
    ],
)
def test_wrong_input_is_one_sentence(words, told, tmp_path, capsys):
    assert cli.main(["ablate", *words, "--out", str(tmp_path / "new")]) == 2
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("pfrl: ")]
    assert len(said) == 1 and told in said[0]
    assert not (tmp_path / "new").exists()


def test_settings_are_changed_by_their_paths():
    small = at_scales(every={"episode.steps": 3}, small={"space.round_to": 8})["small"]
    assert (small.episode.steps, small.space.round_to) == (3, 8)
    with pytest.raises(SettingsError, match="EpisodeConfig has no setting 'stepps'"):
        changed(small, {"episode.stepps": 3})


register(
    "experiment",
    "two-rules",
    Experiment(
        title="two rules",
        paper="none",
        table="none",
        claim="They differ.",
        scales=at_scales(smoke={"tuning_images": 64, "episode.validation": "xla"}),
        cells=lambda settings: [
            Cell("even", agent="uniform", target="macs=0.3"),
            Cell("uneven", agent="random", target="macs=0.3"),
        ],
        columns=EXPERIMENTS["searchers"].columns,
        against="even",
    ),
)
QUICK = ("ablate", "two-rules", "--scale", "smoke", "--workers", "1", "--episodes", "2")


def without_clock(lines):
    clock = ("evaluation_seconds", "agent_seconds", "job_seconds", "hits")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


def test_a_run_goes_on_takes_more_seeds_and_is_reported(tmp_path, capsys):
    half = tmp_path / "half"
    assert cli.main([*QUICK, "--seeds", "1", "--out", str(half)]) == 0
    before = read_history(half / "results.jsonl")
    assert [(line["cell"], line["seed"]) for line in before] == [("even", 0), ("uneven", 0)]
    # As after a kill between two jobs: the second one is done again, and ends the same.
    text = (half / "results.jsonl").read_text().splitlines(keepends=True)
    (half / "results.jsonl").write_text(text[0] + text[1][:20])
    assert cli.main([*QUICK, "--seeds", "2", "--out", str(half)]) == 0
    after = read_history(half / "results.jsonl")
    assert without_clock(after[:2]) == without_clock(before)
    assert [(line["cell"], line["seed"]) for line in after[2:]] == [("even", 1), ("uneven", 1)]
    assert "3 of 4 jobs" in capsys.readouterr().err
    table = (half / "table.md").read_text().replace("\u00a0", " ")
    assert "# Two rules" in table and "The claim that is tested: They differ." in table
    assert "| uneven | 2 ([0](uneven/seed-0/), [1](uneven/seed-1/)) |" in table
    assert "difference to even" in table
    # 'pfrl report' reads the folder by the same layout, and finds the histories.
    (study,) = read_studies([half])
    assert study.layout == EXPERIMENTS["two-rules"].layout
    assert len(study.histories(study.lines[-1])) == 2
    assert (half / "summary").is_dir() and (half / "uneven" / "all-seeds").is_dir()
    assert cli.main([*QUICK, "--seeds", "2", "--episodes", "3", "--out", str(half)]) == 2
    assert "episodes was 2, now it is 3" in capsys.readouterr().err


@pytest.mark.ci
def test_experiments_that_lie_side_by_side_share_their_searches(tmp_path, monkeypatch, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    assert cli.main([*QUICK, "--seeds", "1", "--out", str(one)]) == 0

    def searched(*_):
        raise SettingsError("a search began")

    monkeypatch.setattr(searching, "searched", searched)
    assert cli.main([*QUICK, "--seeds", "1", "--out", str(two)]) == 0
    lines = [without_clock(read_history(out / "results.jsonl")) for out in (one, two)]
    assert lines[0] == lines[1]
    for line in lines[1]:
        history = Path(line["folder"]) / "history.jsonl"
        assert (one / history).read_text() == (two / history).read_text()
    # Another seed is another search, and so is another number of episodes.
    for words in (["--seeds", "2", "--out", str(two)], ["--episodes", "3", "--out", f"{two}3"]):
        assert cli.main([*QUICK, "--seeds", "1", *words]) == 2
        assert "a search began" in capsys.readouterr().err


def test_a_search_that_is_taken_over_is_the_job_of_who_asks(tmp_path):
    (tmp_path / "one/ddpg/seed-0").mkdir(parents=True)
    found = {"folder": "ddpg/seed-0", "search": "a", "best": 3}
    line = {"cell": "ddpg", "seed": 0, **found}
    (tmp_path / "one/results.jsonl").write_text(json.dumps(line) + "\n")
    mine = tmp_path / "two/ddpg as shipped/seed-0"
    assert taken_over("a", tmp_path / "two", mine) == found and mine.is_dir()
    assert taken_over("b", tmp_path / "two", tmp_path / "two/other/seed-0") is None


def test_ranks_are_those_of_the_same_policies_after_long_training():
    """τ of (1, 2, 3) with (1, 3, 2): of three pairs two agree, so (2 - 1) / 3."""
    lines = [
        {"cell": "reconstruct", "seed": 0, "scores": [0.1, 0.2, 0.3]},
        {"cell": "long fine-tuning", "seed": 0, "scores": [0.7, 0.9, 0.8]},
        {"cell": "reconstruct", "seed": 1, "scores": [0.1, 0.2, 0.3]},
    ]
    first, long, alone = ranks(lines)
    assert first["kendall"] == pytest.approx(1 / 3)
    assert first["spearman"] == pytest.approx(0.5)
    assert first["chosen"] == 0.8 and long["kendall"] == pytest.approx(1)
    assert "kendall" not in alone


def test_every_table_has_its_script():
    """Write them again with ``python -m experiments.ablations.scripts``."""
    written = {path.stem: path.read_text() for path in FOLDER.glob("*.sh")}
    assert written == {name: script(name) for name in OURS}
    assert all(os.access(path, os.X_OK) for path in FOLDER.glob("*.sh"))
