"""A user's own data set and task: one file, registered from outside the package, used by name."""

import numpy as np
import pytest

from experiments import cli
from pfrl.data import DataError, load
from pfrl.registry import RegistryError, load_plugin, register

PLUGIN = '''
import dataclasses
import pfrl
from pfrl.registry import register
from pfrl.tasks import Classification


@register("dataset", "light_digits")
def light_digits():
    """The digits in negative: light where they were dark."""
    data = pfrl.load_data("digits")
    light = dataclasses.replace(data.train, images=255 - data.train.images)
    return dataclasses.replace(data, name="light_digits", train=light)


@register("dataset", "noise:")
def noise(seed):
    data = pfrl.load_data("digits")
    return dataclasses.replace(data, name=f"noise:{seed}")


@register("task", "sharp")
@dataclasses.dataclass(frozen=True)
class Sharp(Classification):
    margin: float = 1.0

    def check(self, targets, names):
        super().check(targets, names)
'''


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text(PLUGIN)
    load_plugin(path)


def test_a_registered_data_set_is_loaded_by_name():
    ours, digits = load("light_digits"), load("digits")
    assert np.array_equal(ours.train.images, 255 - digits.train.images)
    assert load("noise:7").name == "noise:7"


def test_unknown_names_and_wrong_returns_are_told():
    told = r"unknown dataset 'dgits' \(did you mean digits\?\); expected one of .*digits"
    with pytest.raises(RegistryError, match=told):
        load("dgits")
    with pytest.raises(RegistryError, match="unknown dataset 'cifar10:'"):
        load("cifar10:here")
    register("dataset", "nothing", lambda: None)
    with pytest.raises(DataError, match=r"'nothing' is a NoneType; expected .* to return a"):
        load("nothing")


def test_a_registered_task_is_used_by_its_name_in_a_file_of_arrays(tmp_path):
    path = tmp_path / "own.npz"
    images, targets = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    np.savez(path, images=images, targets=targets, task="sharp", margin=np.asarray(0.5))
    task = load(f"npz:{path}").task
    assert type(task).__name__ == "Sharp" and repr(task).endswith("margin=0.5)")


def test_a_network_is_trained_on_a_registered_data_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = "--model lenet5 --data light_digits --epochs 0.05 --out own.npz"
    cli.main(["pretrain", *options.split()])
    assert (tmp_path / "own.npz").is_file()
