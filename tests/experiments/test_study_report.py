"""``pfrl report``: statistics worked out by hand, and a page a stranger can use."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import cli
from experiments.report.studies.comparing import cells, improvement, interquartile_mean, pooled
from experiments.report.studies.figures import drawn
from experiments.report.studies.layout import Column, Layout, layout_of, write_layout
from experiments.report.studies.source import Study, read_studies
from experiments.report.studies.tables import Folders, study_tables, summary_rows
from pfrl.files import FileError, write_json
from tests.support.invented_run import write_run
from tests.support.invented_study import write_sweep

LAYOUT = Layout(("agent",), (Column("score", unit="share"),), ("target",))


def lines(**scores):
    """Of one target, each agent's scores by seed."""
    return [
        {"target": "macs=0.5", "agent": agent, "seed": seed, "score": score}
        for agent, found in scores.items()
        for seed, score in enumerate(found)
    ]


def test_cells_are_compared_with_the_first_one_seed_by_seed():
    """Differences 0.02 and 0.06: mean 0.04, s = 0.02828, Student's 12.7062 · s / sqrt(2)."""
    first, second = cells(lines(random=[0.5, 0.7], ddpg=[0.52, 0.76]), LAYOUT)
    assert first.against is None
    assert second.means["score"] == pytest.approx((0.64, 12.7062 * 0.12), rel=1e-4)
    assert second.against is not None
    assert second.against.difference == pytest.approx((0.04, 12.7062 * 0.02), rel=1e-4)
    assert (second.against.rival, second.against.pairs) == ("random", 2)
    # 0.52 beats 0.5 alone, 0.76 beats both.
    assert second.against.improvement.value == 0.75


def test_cells_are_compared_in_every_column_that_asks_for_it():
    columns = (Column("score"), Column("seconds"), Column("after", compared=True))
    layout = Layout(("agent",), columns, ("target",))
    every = [
        {**line, "seconds": 1.0, "after": line["score"] + 0.1 * (line["agent"] == "ddpg")}
        for line in lines(random=[0.5, 0.7], ddpg=[0.5, 0.7])
    ]
    first, second = cells(every, layout)
    assert not first.beside and list(second.beside) == ["score", "after"]
    assert second.beside["after"].difference == pytest.approx((0.1, 0.0))
    (table,) = study_tables(every, layout, Folders(Path("a"), Path("a")))
    assert table.header[-3:] == ("difference to random", "P(better than random)",
                                 "difference in after")  # fmt: skip
    assert [[entry.text for entry in row[-3:]] for row in table.rows] == [
        ["–", "–", "–"],
        ["+0 ± 0", "0.50 (0.00 to 1.00)", "+0.100 ± 0.000"],
    ]
    compared = [row[3] for row in summary_rows("s", cells(every, layout), layout) if row[8]]
    assert compared == ["score", "after"]


def test_only_seeds_of_both_are_pairs():
    found = cells(lines(random=[0.5], ddpg=[0.6, 0.9]), LAYOUT)[1].against
    assert found is not None and found.difference == pytest.approx((0.1, None)) and found.pairs == 1


def test_the_rival_is_the_best_of_the_baselines():
    layout = Layout(("agent",), LAYOUT.columns, ("target",), ("random", "tpe"))
    found = cells(lines(ddpg=[0.9], random=[0.5], tpe=[0.6]), layout)
    assert [cell.against and cell.against.rival for cell in found] == ["tpe", "tpe", None]


@pytest.mark.parametrize(
    ("x", "y", "better", "expected"),
    [([1, 2], [0], 1, 1.0), ([1, 1], [1], 1, 0.5), ([1, 3], [2, 4], 1, 0.25), ([1], [2], -1, 1.0)],
)
def test_probability_of_improvement_counts_pairs(x, y, better, expected):
    assert improvement(x, y, better).value == expected


def test_its_interval_is_the_bootstraps():
    """Of two values each: resamples of x are better than y, or not, in known shares."""
    found = improvement([0, 2], [1, 1])
    assert found.value == 0.5 and found.low == 0 and found.high == 1
    clear = improvement([5, 6, 7], [1, 2, 3])
    assert clear == (1, 1, 1)


def test_interquartile_mean_is_of_the_middle_half_of_all_tasks():
    # 1, 2, 3, 4 | 5, 6, 7, 100: the middle four are 3, 4, 5, 6.
    found = interquartile_mean([[1, 2, 3, 4], [5, 6, 7, 100]])
    assert found.value == 4.5
    assert found.low is not None and found.high is not None and found.low < 4.5 < found.high
    # Drawn within each task: between constant tasks nothing varies.
    assert interquartile_mean([[1, 1], [3, 3]]) == (2, 2, 2)


def test_pooled_are_cells_that_have_every_task():
    every = lines(random=[0.5, 0.6], ddpg=[0.7, 0.8])
    other = [{**line, "target": "macs=0.3"} for line in every if line["agent"] == "ddpg"]
    assert list(pooled(cells([*every, *other], LAYOUT), LAYOUT.columns[0])) == ["ddpg"]
    assert pooled(cells(every, LAYOUT), LAYOUT.columns[0]) == {}


def test_a_layout_is_kept_and_found_again(tmp_path):
    layout = Layout(("agent",), (Column("a", "A", "share", -1, ("x", "y")),), ("t",), ("r",))
    kept = json.loads(write_layout(tmp_path, layout).read_text())
    assert layout_of("ablate", [{}], kept) == layout
    assert layout.columns[0].of({"x": 1, "y": 2}) == 3
    with pytest.raises(FileError, match=r"layout\.json is not of this version"):
        layout_of("ablate", [{}], {"columns": [{"what": 1}]})


def test_a_study_without_a_layout_is_read_by_its_types():
    found = layout_of("own", [{"case": "a", "seed": 0, "folder": "x", "score": 0.5}], None)
    assert found == Layout(("case",), (Column("score"),))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = write_sweep(tmp_path_factory.mktemp("study") / "sweep")
    assert cli.main(["report", str(folder)]) == 0
    return folder


def test_every_number_leads_to_its_run(sweep):
    text, page = (sweep / "report.md").read_text(), (sweep / "report.html").read_text()
    links = set(re.findall(r"\]\(([^)]*seed-\d+/)\)", text))
    assert links == set(re.findall(r'href="([^"]*seed-\d+/)"', page))
    assert len(links) == 2 * 4 * 3
    for link in links:
        assert (sweep / link.replace("%3D", "=") / "history.jsonl").is_file()


def test_the_page_needs_no_network_and_names_what_made_it(sweep):
    page = (sweep / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert page.count("data:image/svg+xml;base64,") == 3  # curves, policies of two targets
    for words in ("pfrl sweep --model resnet20", "1a2b3c4", "seeds 0, 1, 2", "Example CPU"):
        assert words in page and words in (sweep / "report.md").read_text()
    assert "Student" in page and "bootstrap" in page


def test_the_tables_have_the_lines_numbers(sweep):
    with (sweep / "report.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    found = read_studies([sweep])[0].lines
    ddpg = [
        x["search_accuracy"] for x in found if (x["target"], x["agent"]) == ("macs=0.5", "ddpg")
    ]
    row = next(x for x in rows if (x["task"], x["cell"]) == ("macs=0.5", "ddpg"))
    assert row["column"] == "search_accuracy" and row["n"] == "3"
    assert float(row["mean"]) == pytest.approx(np.mean(ddpg))
    assert row["rival"] == "evolution" and float(row["low"]) < float(row["mean"])
    seconds = next(x for x in rows if x["cell"] == "ddpg" and x["column"] == "seconds")
    assert float(seconds["mean"]) == 53.0
    text = (sweep / "report.md").read_text().replace("\u00a0", " ")
    assert f"{100 * np.mean(ddpg):.2f} ±" in text and "All tasks together" in text


def test_two_commits_are_compared_seed_by_seed(tmp_path):
    """The second study is 0.03 better in every run."""
    before = write_sweep(tmp_path / "before", targets=("macs=0.5",))
    after = write_sweep(tmp_path / "after", targets=("macs=0.5",), better=0.03, commit="5d6e7f8")
    out = tmp_path / "both"
    assert cli.main(["report", str(before), str(after), "--out", str(out)]) == 0
    text = (out / "report.md").read_text().replace("\u00a0", " ")
    assert "## after against before" in text
    assert len(re.findall(r"\+3\.00 ± 0\.00", text)) == 4
    assert "1a2b3c4" in text and "5d6e7f8" in text
    assert "../after/macs%3D0.5/ddpg/seed-0/" in text


def test_jobs_that_answer_at_many_limits_are_drawn_limit_by_limit(tmp_path):
    answers = {0: {"0.2": 0.5, "0.5": 0.7}, 1: {"0.5": 0.8, "0.2": 0.6}}
    every: list[Any] = [
        {"target": "", "agent": agent, "seed": seed, "score": 0.5, "at": at}
        for agent in ("ddpg", "random")
        for seed, at in answers.items()
    ]
    study = Study("any", tmp_path, every, {}, LAYOUT)
    pictures = drawn(study, cells(every, LAYOUT))
    assert list(pictures) == ["limits"], "there is no curve, and no best policy of all limits"
    (axes,) = pictures["limits"][0].axes
    assert [line.get_label() for line in axes.lines] == ["ddpg", "random"]
    drawn_line = np.asarray(axes.lines[0].get_xydata(), float)
    np.testing.assert_allclose(drawn_line, [[20, 55], [50, 75]])
    assert "2 seeds" in axes.get_title(loc="left")


def test_single_runs_are_one_study(tmp_path, capsys):
    for seed in (0, 1):
        write_json(write_run(tmp_path / f"run-{seed}") / "seed.json", seed)
        path = tmp_path / f"run-{seed}" / "report.json"
        write_json(path, {**json.loads(path.read_text()), "seed": seed})
    out = tmp_path / "report"
    assert cli.main(["report", str(tmp_path), "--out", str(out)]) == 0
    text = (out / "report.md").read_text().replace("\u00a0", " ")
    assert "| ddpg | 2 ([0](../run-0/), [1](../run-1/)) | 92.71 ± 0.00 |" in text
    assert capsys.readouterr().out.splitlines() == [
        str(out / f"report.{kind}") for kind in ("md", "csv", "html")
    ]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.mkdir(), "holds neither a study"),
        (lambda path: write_json(path / "config.json", {}), "holds neither a study"),
        (lambda path: write_json(path / "results.jsonl", {"a": 1}), "is damaged"),
    ],
)
def test_what_is_no_run_is_one_sentence(make, told, tmp_path, capsys):
    make(tmp_path / "it")
    assert cli.main(["report", str(tmp_path / "it"), "--out", str(tmp_path / "out")]) == 2
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("pfrl: ")]
    assert len(said) == 1 and told in said[0]
    assert not (tmp_path / "out").exists()
