"""The benchmark of accelerators, on a CPU: what it says there, and all that it does elsewhere."""

import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accelerator import __main__ as accelerator
from benchmarks.accelerator import contestants, processes
from benchmarks.accelerator.page import describe
from benchmarks.accelerator.plan import (
    PYTORCH,
    AcceleratorSettings,
    Left,
    Report,
    Row,
    jobs_of,
)
from pfrl.compression.recipe import Recipe
from pfrl.evaluation.config import EpisodeConfig

SETTINGS = AcceleratorSettings(
    networks=("resnet8",), populations=(1, 3), precisions=("float32", "bfloat16"), force=True
)
FACTS = {
    "settings": {"data": None},
    "device": "a card",
    "machine": {"cpu": "a CPU", "cores": 2},
    "versions": {"jax": "1"},
    "command": "python -m benchmarks.accelerator",
}


@pytest.fixture
def small(monkeypatch):
    """An evaluation of a second, in this process."""
    config = EpisodeConfig("finetune", steps=2, batch=16, statistics_images=16, search_images=20)
    monkeypatch.setattr(contestants, "CONFIG", config)
    monkeypatch.setattr(
        contestants, "RECIPE", Recipe(repair="least_squares", images=64, positions=2)
    )
    monkeypatch.setattr(contestants, "IMAGE", (8, 8, 3))
    monkeypatch.setattr(contestants, "SECONDS", 0.0)
    monkeypatch.setattr(contestants, "FEWEST", 1)
    monkeypatch.setattr(contestants, "SEARCH", 40)
    monkeypatch.setattr(contestants, "TRAINING", 64)

    def reports(settings, job, seconds):
        yield from contestants.measure(settings, job)

    monkeypatch.setattr(accelerator, "reports", reports)


def test_on_a_cpu_it_says_so_in_a_sentence():
    command = [sys.executable, "-m", "benchmarks.accelerator"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, accelerator.NOTHING + "\n"), done.stderr


@pytest.mark.ci
def test_processes_measure_as_the_command_starts_them(tmp_path):
    """Data that is not there, so that they end soon, and tell why."""
    options = f"--force --networks resnet8 --data npz:{tmp_path}/none.npz --populations 1 --out"
    command = [sys.executable, "-m", "benchmarks.accelerator", *options.split(), str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "accelerator.json").read_text())
    assert found["rows"] == [] and len(found["left_out"]) == 6
    assert all("Error: " in each["why"] for each in found["left_out"]), found["left_out"]


@pytest.mark.ci
def test_a_run(small, tmp_path, capsys):
    options = "--force --networks resnet8 --populations 2 --precisions bfloat16 --out"
    assert accelerator.main([*options.split(), str(tmp_path)]) == 0
    found = json.loads((tmp_path / "accelerator.json").read_text())
    page = (tmp_path / "accelerator.md").read_text()
    assert page in capsys.readouterr().out
    rows = [Row(*(row[name] for name in Row._fields)) for row in found["rows"]]
    settings = replace(SETTINGS, populations=(2,), precisions=("bfloat16",))
    planned = [row for job in jobs_of(settings) for row in job.rows]
    if importlib.util.find_spec("torch_pruning") is None:
        assert {each["why"] for each in found["left_out"]} == {
            "ModuleNotFoundError: No module named 'torch_pruning'"
        }
        planned = [row for row in planned if row.who != PYTORCH]
    assert sorted(rows) == sorted(planned)
    for row in found["rows"]:
        assert row["policies_a_second"] > 0 and row["calls"] == 1
        assert len(row["accuracies"]) == row["population"]


def test_what_fails_is_told_and_the_rest_goes_on(small, monkeypatch):
    def fails(settings, row, prepared):
        if row.population == 3:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nand more")
        return Report(row, 2.0)

    monkeypatch.setattr(contestants, "ours", fails)
    monkeypatch.setattr(contestants, "subject", lambda settings, network: None)
    job, _ = jobs_of(SETTINGS)
    found = list(contestants.measure(SETTINGS, job))
    assert [report.row for report in found] == list(job.rows)
    assert {r.why for r in found if r.row.population == 3} == {
        "RuntimeError: RESOURCE_EXHAUSTED: out of memory"
    }
    assert {r.why for r in found if r.row.population == 1} == {None}


def dies(connection, settings, job):
    connection.send(Report(job.rows[0], 5.0))
    sys.exit(7)


def hangs(connection, settings, job):
    time.sleep(600)


@pytest.mark.parametrize(
    ("serve", "seconds", "rows", "why"),
    [(dies, 600.0, 1, "its process ended with code 7"), (hangs, 3.0, 0, "the time was up")],
)
def test_a_process_that_ends_or_hangs_takes_only_its_own_rows(
    serve, seconds, rows, why, monkeypatch
):
    monkeypatch.setattr(processes, "serve", serve)
    (first, _), found = jobs_of(SETTINGS), []
    with pytest.raises(Left, match=why):
        for report in processes.reports(SETTINGS, first, seconds):
            found.append(report)
    assert [report.row for report in found] == list(first.rows[:rows])


def test_time_is_shared_out_by_depth():
    settings = AcceleratorSettings(networks=("resnet20", "resnet56"))
    jobs = jobs_of(settings)
    assert [(job.network, job.who) for job in jobs] == [
        (network, who) for network in settings.networks for who in ("ours", PYTORCH)
    ]
    # 5 and 2 parts for each of 20 and of 56 layers, of 532.
    assert [round(job.until * 532) for job in jobs] == [100, 140, 420, 532]
    assert len(jobs[0].rows) == 16 and len(jobs[1].rows) == 2


def test_rates_are_shares_of_pytorchs_at_the_same_precision():
    ours = Row("resnet20", "ours", "reconstruct", "float32", 16)
    theirs = Row("resnet20", PYTORCH, "finetune", "float32", 1)
    short = ours._replace(precision="bfloat16")
    same = np.arange(16) / 16
    rows = [
        Report(ours, 50.0, 9.0, 3, 0.02, 1.5, tuple(same)),
        Report(theirs, 2.0, 1.0, 3),
        Report(short, 80.0, 9.0, 3, 0.02, 1.5, tuple(same[::-1])),
    ]
    text = describe(FACTS, rows, [(theirs._replace(precision="bfloat16"), "the time was up")])
    text = text.replace("\u00a0", " ")
    assert "| resnet20 | reconstruct | float32 | 16 | 50.0 | 25.0 | 9.00 | 0.0200 | 1.50 |" in text
    assert "| resnet20 | PyTorch, finetune | float32 | 1 | 2.00 | 1.00 |" in text
    assert "| resnet20 | reconstruct | bfloat16 | 16 | 80.0 | – |" in text
    assert "- the time was up: resnet20, PyTorch, finetune, bfloat16, 1 policy." in text
    assert "Kendall" not in text
    real = {**FACTS, "settings": {"data": "cifar10"}}
    assert "| resnet20 | reconstruct | bfloat16 | 16 | −1.00 |" in describe(real, rows, [])
    assert "Nothing could be measured." in describe(FACTS, [], [])


def test_a_network_that_cannot_be_compared_is_refused(capsys):
    assert accelerator.main(["--force", "--networks", "vgg16"]) == 2
    assert "expected CIFAR ResNets such as resnet20; got 'vgg16'" in capsys.readouterr().err
