"""The runner of studies: killed at any moment and started again, every job is done once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from experiments.records.history import read_history
from experiments.records.run_folder import FORMAT, RunFolder
from experiments.studies.study import ONE_BY_ONE, complete
from experiments.watch.jobs import run_name, write_job
from pfrl.files import FileError
from tests.support.jobs import Multiply, Product
from tests.support.killed_study import ToySettings

ROOT = Path(__file__).resolve().parents[2]
JOBS = 40


@pytest.mark.parametrize(("workers", "kills"), [(1, 6), pytest.param(2, 2, marks=pytest.mark.ci)])
def test_killed_and_started_again_it_ends_as_if_it_had_not_been(workers, kills, tmp_path):
    """The program is no module, so that the worker processes need not import one again."""
    code = "import sys; from tests.support.killed_study import main; "
    code += f"main(sys.argv[1], {JOBS}, {workers}, {kills})"
    command = [sys.executable, "-c", code, str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-2000:]
    before = read_history(tmp_path / "before.jsonl")
    lines = read_history(tmp_path / "results.jsonl")
    assert sorted(line["number"] for line in lines) == list(range(JOBS))
    assert all(line["product"] == 3 * line["number"] for line in lines)
    assert before and all(
        before[line["number"]] == line for line in lines if line["number"] in before
    )


def test_lines_come_in_the_order_of_the_jobs_and_others_stay(tmp_path):
    settings = ToySettings(tmp_path)
    jobs = [Product(n) for n in (4, 1, 3)]
    for some in (jobs[1:], jobs):
        folder = RunFolder("toy", settings, Path(__file__))
        lines = complete(folder, some, Multiply(2), ONE_BY_ONE)
        assert [line["number"] for line in lines] == [job.number for job in some]
    last = complete(RunFolder("toy", settings, Path(__file__)), jobs[:1], Multiply(5), ONE_BY_ONE)
    assert [(line["number"], line["product"]) for line in last] == [(4, 8), (1, 2), (3, 6)]


@pytest.mark.parametrize("before", [{"format": FORMAT - 1}, {"format": None}, {"settings": None}])
def test_a_folder_of_another_version_is_refused(tmp_path, before):
    """What an older version of the package wrote is not gone on with, nor read half."""
    RunFolder("toy", ToySettings(tmp_path), Path(__file__)).begin()
    path = tmp_path / "config.json"
    config = json.loads(path.read_text()) | before
    path.write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )
    with pytest.raises(FileError, match=r"config\.json is not of this version; choose another"):
        RunFolder("toy", ToySettings(tmp_path), Path(__file__))


class Tried(NamedTuple):
    section: str
    name: str
    seed: int


def test_a_job_is_a_run_of_tensorboard_with_its_results_as_metrics(tmp_path):
    job = Tried("bits", "w4/a8", 2)
    costs = {"macs": 5, "bytes": 7.5}
    write_job(tmp_path, job, {**job._asdict(), "costs": costs, "after": 0.5, "note": "fine"})
    events = EventAccumulator(str(tmp_path / "tb" / "bits" / "w4-a8" / "seed-2"))
    events.Reload()
    values = {tag: events.Scalars(tag)[0] for tag in events.Tags()["scalars"]}
    assert {tag: event.value for tag, event in values.items()} == {
        "study/after": 0.5,
        "study/costs.macs": 5,
        "study/costs.bytes": 7.5,
    }
    assert {event.step for event in values.values()} == {2}
    about = events.PluginTagToContent("hparams")[metadata.EXPERIMENT_TAG]
    metrics = metadata.parse_experiment_plugin_data(about).metric_infos
    assert metrics[0].name.tag == "study/after", "costs come behind qualities"
    content = events.PluginTagToContent("hparams")[metadata.SESSION_START_INFO_TAG]
    found = metadata.parse_session_start_info_plugin_data(content).hparams
    assert (found["name"].string_value, found["seed"].number_value) == ("w4/a8", 2)


def test_runs_are_named_by_what_they_are():
    assert run_name({"trial": 3}) == Path("trial=3")
    assert run_name({"number": 4, "fidelity": "finetune"}) == Path("finetune/number=4")
    assert run_name({"seed": 1}) == Path("all/seed-1")
    assert run_name({"name": "..", "bits": None, "seed": 1}) == Path("all/bits=None/seed-1")


def test_a_watched_study_writes_a_run_a_job(tmp_path):
    folder = RunFolder("toy", ToySettings(tmp_path), Path(__file__))
    complete(folder, [Product(4), Product(1)], Multiply(2), ONE_BY_ONE, watched=True)
    assert {path.name for path in (tmp_path / "tb").iterdir()} == {"number=1", "number=4"}
