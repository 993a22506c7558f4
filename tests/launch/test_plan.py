"""Before anything runs: what is left and how long it takes; and where finished jobs are kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest

from experiments.ablations.settings import AblateSettings
from experiments.records.history import read_history
from experiments.records.run_folder import RunFolder
from experiments.settings.blocks import SettingsError
from experiments.settings.launching import LaunchBlock
from experiments.studies.study import ONE_BY_ONE, called, complete, show_plan
from pfrl.files import FileError
from tests.support.jobs import Multiply, Product


class Search(NamedTuple):
    """A job of several fields."""

    agent: str
    seed: int | None


@dataclass(frozen=True)
class Settings:
    """Of a toy study, which may be kept in a database."""

    FREE: ClassVar = ("out",)

    out: Path
    storage: str | None = None


def folder(out: Path, storage: str | None = None) -> RunFolder:
    return RunFolder("toy", Settings(out, storage), Path(__file__))


def test_a_job_is_called_by_its_words_and_its_named_numbers():
    assert called(Search("ddpg", 3)) == "ddpg seed 3"
    assert called(Search("ddpg", None)) == "ddpg seed –"


def test_a_plan_expects_what_the_jobs_most_like_it_took(tmp_path, capsys):
    known = folder(tmp_path)
    known.begin()
    for agent, seed, seconds in (("ddpg", 0, 60.0), ("ddpg", 1, 120.0), ("random", 0, 10.0)):
        known.append({"agent": agent, "seed": seed, "job_seconds": seconds})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    jobs = [Search("ddpg", 0), Search("ddpg", 2), Search("random", 3)]
    show_plan(folder(tmp_path), jobs, LaunchBlock(workers=2), "searches")
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in said[1:4]] == ["finished", "min", "s"]
    assert said[2].endswith("1:30 min") and said[3].endswith("10.0 s")
    assert said[4:] == [
        "2 of 3 searches are left, 2 at once on this machine",
        "about 1:30 min in all",
    ]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_plan_of_a_new_folder_makes_no_folder(tmp_path, capsys):
    out = tmp_path / "new"
    show_plan(folder(out), [Product(1)], LaunchBlock(workers=1))
    assert "how long is known when some are finished" in capsys.readouterr().out
    show_plan(folder(out), [Product(1)], LaunchBlock(workers=1), measured=lambda job: 30.0)
    assert "about 30.0 s in all" in capsys.readouterr().out
    assert not out.exists()


def test_in_a_database_a_study_goes_on_and_shares_it_with_others(tmp_path):
    storage = f"sqlite:///{tmp_path}/studies.db"
    jobs = [Product(n) for n in (4, 1, 3)]
    for some in (jobs[1:], jobs):
        lines = complete(folder(tmp_path / "a", storage), some, Multiply(2), ONE_BY_ONE)
    other = complete(folder(tmp_path / "b", storage), jobs[:1], Multiply(5), ONE_BY_ONE)
    assert [(line["number"], line["product"]) for line in lines] == [(4, 8), (1, 2), (3, 6)]
    assert [(line["number"], line["product"]) for line in other] == [(4, 20)]
    copy = tmp_path / "a" / "results.jsonl"
    assert [line["product"] for line in read_history(copy)] == [2, 6, 8]
    copy.unlink()
    assert complete(folder(tmp_path / "a", storage), jobs, Multiply(7), ONE_BY_ONE) == lines
    with pytest.raises(SettingsError, match="storage was"):
        folder(tmp_path / "a")


@pytest.mark.parametrize(
    ("storage", "sentence"),
    [
        ("studies.db", "give a URL as of SQLAlchemy, such as sqlite:///studies.db"),
        ("sqlite://me:secret@host/x", "leave its password to the environment"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(storage, sentence, tmp_path):
    with pytest.raises(SettingsError, match=sentence) as found:
        folder(tmp_path / "a", storage)
    assert "secret" not in str(found.value)


def test_a_database_that_does_not_answer_is_a_sentence(tmp_path):
    with pytest.raises(FileError, match="does not answer"):
        folder(tmp_path / "a", f"sqlite:///{tmp_path}/nowhere/studies.db")


def test_a_second_command_in_the_same_folder_is_refused(tmp_path):
    with folder(tmp_path).held(), pytest.raises(SettingsError, match="another process is at work"):
        complete(folder(tmp_path), [Product(1)], Multiply(2), ONE_BY_ONE)
    assert complete(folder(tmp_path), [Product(1)], Multiply(2), ONE_BY_ONE)


EXPERIMENT = """
import dataclasses
import pfrl
from experiments.ablations.experiment import EXPERIMENTS
pfrl.register("experiment", "mine", dataclasses.replace(EXPERIMENTS["searchers"], title="Mine"))
"""


def test_an_experiment_of_a_users_file_is_named_with_its_file(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(EXPERIMENT)
    assert AblateSettings(names=(f"{file}:mine",)).resolved().names == ("mine",)
