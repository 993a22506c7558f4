"""The registry and users' files: what is unknown, taken, run twice or broken."""

import pytest

from pfrl import registry
from pfrl.registry import Registry, RegistryError, load_plugin, plugins, register
from pfrl.user_code import UserCodeError

REWARD = "from pfrl.registry import register\nregister('reward', 'toy_reward', {value})\n"


@pytest.fixture(autouse=True)
def unchanged(monkeypatch):
    """What a test registers is gone after it."""
    items = {kind: dict(found) for kind, found in registry._items.items()}
    monkeypatch.setattr(registry, "_items", items)
    monkeypatch.setattr(registry, "_places", dict(registry._places))
    monkeypatch.setattr(registry, "_loaded", list(registry._loaded))


def written(path, text):
    path.write_text(text)
    return path


def test_what_is_registered_is_found_by_name():
    known = Registry("reward")

    @register("reward", "decorated")
    def decorated():
        return 1

    assert register("reward", "called", 2) == 2
    assert known["decorated"] is decorated and known["called"] == 2
    assert {"decorated", "called"} <= set(known) and len(known) == len(set(known))


def test_an_unknown_name_or_kind_is_refused_with_those_there_are():
    register("reward", "toy_reward", 1)
    with pytest.raises(RegistryError, match=r"unknown reward 'mine'; expected one of .*toy_reward"):
        Registry("reward")["mine"]
    with pytest.raises(RegistryError, match="nothing is registered as 'prize'; expected one of cr"):
        register("prize", "mine", 1)


def test_a_name_belongs_to_the_module_that_took_it(tmp_path):
    load_plugin(written(tmp_path / "first.py", REWARD.format(value=1)))
    with pytest.raises(UserCodeError, match="reward 'toy_reward' is there already"):
        load_plugin(written(tmp_path / "second.py", REWARD.format(value=2)))
    assert Registry("reward")["toy_reward"] == 1


def test_a_file_is_run_once_and_may_register_again(tmp_path):
    path = written(tmp_path / "mine.py", REWARD.format(value=1))
    load_plugin(path)
    load_plugin(path)
    assert plugins().count(path.resolve()) == 1
    register("reward", "mine", 1)
    register("reward", "mine", 2)
    assert Registry("reward")["mine"] == 2


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("\nraise ValueError('out of paper')", r"raises ValueError: out of paper \(.*, line 2\)"),
        ("import sys\nsys.exit(3)", r"raises SystemExit: 3 \(.*, line 2\)"),
        ("def broken(:", "raises SyntaxError"),
    ],
)
def test_a_file_that_fails_is_told_with_its_line(tmp_path, text, match):
    path = written(tmp_path / "mine.py", text)
    with pytest.raises(UserCodeError, match=match):
        load_plugin(path)
    assert path.resolve() not in plugins()


def test_a_file_that_is_missing_is_told(tmp_path):
    with pytest.raises(UserCodeError, match=r"no file .*missing.py; expected a Python file"):
        load_plugin(tmp_path / "missing.py")
