"""The documentation is true: its snippets run, its commands parse, its tables are the code's."""

import dataclasses
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pfrl
from agents import AGENTS, DDPGOptions, SACOptions, TD3Options, TQCOptions
from envs import Problem
from experiments import cli
from experiments.report import inspection as inspect
from experiments.run import compression as compress
from experiments.run import pretrain
from experiments.studies.methods import comparison as methods
from experiments.studies.pareto import front as pareto
from experiments.studies.proxy import scores as proxy
from experiments.studies.sweep import searches as sweep
from experiments.studies.tune import trials as tune

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
USERS = sorted([ROOT / "README.md", *(ROOT / "docs" / "guide").glob("*.md")])
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[tuple[int, str]]:
    """``(first line, code)`` of every fenced block of a language."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [(text[: m.start(1)].count("\n"), m.group(1)) for m in pattern.finditer(text)]


def tables(text: str) -> list[list[list[str]]]:
    """Rows of cells of every table, without its head."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append(rows[2:])
            rows = []
    return found


def test_blocks_and_tables_are_found():
    page = "a\n```python\nx = 1\n```\n| a | b |\n| -- | -- |\n| `c` | d |\n\n```sh\nls\n```\n"
    assert blocks(page, "python") == [(2, "x = 1\n")]
    assert tables(page) == [[["`c`", "d"]]]


RUN = [page for page in USERS if "python" in page.read_text() and page.name != "graph.md"]
"""Pages whose snippets are one session each; those of graph.md are a file that is inspected."""


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_snippets_run(page, tmp_path, monkeypatch, capsys):
    """In order, as somebody would type them in one session."""
    monkeypatch.chdir(tmp_path)
    # A class looks for its module by name.
    session: dict = {"__name__": __name__}
    for line, code in blocks(page.read_text(), "python"):
        exec(compile("\n" * line + code, str(page), "exec"), session)
    assert "nan" not in capsys.readouterr().out


def commands(text: str) -> list[list[str]]:
    """Words of every ``pfrl ...`` line with options, in fenced blocks and in running text."""
    lines = [line for _, code in blocks(text, "sh") for line in code.splitlines()]
    written = [code for code in re.findall(r"`([^`\n]+)`", text) if " --" in code]
    # Placeholders in running text, such as N and DIR, are no values.
    lines += [code for code in written if not re.search(r"\.\.\.| [A-Z]+\b", code)]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("pfrl ")]


def test_commands_are_found_in_blocks_and_in_text():
    page = "`pfrl a --b 1` and `pfrl c` \n```sh\npfrl d  # e\n```\n"
    assert commands(page) == [["d"], ["a", "--b", "1"]]


COMMANDS = [page for page in USERS if page.name in ("README.md", "compress.md")]


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: page.name)
def test_commands_are_understood(page, tmp_path, monkeypatch, capsys):
    """Every ``pfrl`` line of the guide parses, and its settings go together."""
    monkeypatch.chdir(tmp_path)
    for _, code in blocks(page.read_text(), "py"):
        # A file that the commands name is shown with its name in its first line.
        (tmp_path / code.split("\n")[0].removeprefix("# ")).write_text(code)
    ran = []
    for module in (compress, inspect, pareto, sweep):
        monkeypatch.setattr(module, "run", lambda settings: ran.append(settings) or [])
    for module in (methods, pretrain, proxy, tune):
        monkeypatch.setattr(module, "run", lambda settings: ran.append(settings) or Path())
    given = [c for c in commands(page.read_text()) if c[1:] and c[1:] != ["--help"]]
    for command in given:
        assert cli.main(command) == 0, (command, capsys.readouterr().err)
    assert len(ran) == len(given)


def test_inline_commands_are_understood(capsys):
    """Commands in the text, `pfrl ...`: each is there, and knows the options that it is given."""
    helped: dict[str, str] = {}
    unknown = []
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for command in re.findall(r"`pfrl ([^`]+)`", prose):
            name, *words = command.split()
            if name not in helped:
                with pytest.raises(SystemExit) as ended:
                    cli.main([name, "--help"])
                helped[name] = capsys.readouterr().out if ended.value.code == 0 else ""
            options = [word.split("=")[0] for word in words if word.startswith("--")]
            missing = [option for option in options if f"{option} " not in helped[name]]
            unknown += [(page.name, command)] if missing or not helped[name] else []
    assert len(helped) >= 5
    assert unknown == []


def test_every_make_target_is_in_the_readme():
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = [row[0] for table in tables(README) for row in table if row[0].startswith("`make ")]
    assert sorted(listed) == sorted(f"`make {target}`" for target in targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_tests_that_are_named_are_there(page):
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    files = re.findall(r"`((?:tests|pfrl|envs|agents|experiments)/[\w/]+(?:\.py|/))", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [file for file in files if not (ROOT / file).exists()]
    assert missing == []


def code_of(value: object) -> str:
    return f"`{value!r}`"


INHERITED = {TD3Options: DDPGOptions, SACOptions: DDPGOptions, TQCOptions: SACOptions}
"""Agents whose tables are of what differs from another's."""
OPTIONS = [agent.options for agent in AGENTS.values() if agent.options is not None]


def rows_of(options: type) -> list[list[str]]:
    """Name and default of every field."""
    return [[f"`{f.name}`", code_of(f.default)] for f in dataclasses.fields(options)]  # type: ignore


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options.__name__)
def test_options_of_the_agents(options):
    """One table for every agent that has any; it follows the name of the type in the text."""
    text = (ROOT / "docs" / "guide" / "agents.md").read_text()
    known = rows_of(INHERITED[options]) if options in INHERITED else []
    expected = [row for row in rows_of(options) if row not in known]
    described = tables(text[text.index(f"`agents.{options.__name__}`") :])[0]
    assert [row[:2] for row in described] == expected


def test_fields_of_a_problem():
    described = tables((ROOT / "docs" / "guide" / "environment.md").read_text())[0]
    assert [row[0] for row in described] == [f"`{f.name}`" for f in dataclasses.fields(Problem)]
    for row, field in zip(described[1:], dataclasses.fields(Problem)[1:], strict=True):
        written = row[1].strip("`").replace("−", "-").replace('"', "'")
        assert written == str(field.default) or written == repr(field.default)


def test_pfrl_imports_nothing_until_it_is_used():
    code = """
import sys
import pfrl
assert not {"jax", "flax", "numpy"} & sys.modules.keys()
from pfrl.compression.sliced import compress, run_graph
assert pfrl.compress is compress
assert sys.modules["pfrl.compression.sliced"].run_graph is run_graph
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_public_name_of_pfrl_is_there():
    assert set(pfrl.__all__) <= set(dir(pfrl))
    for name in pfrl.__all__:
        assert callable(getattr(pfrl, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pfrl.nothing
