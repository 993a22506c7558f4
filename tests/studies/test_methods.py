"""``pfrl methods``: its cells fit a network, its table by hand, a run as a user types it."""

import json
from dataclasses import replace

import pytest

from experiments.cli import main
from experiments.studies.methods import comparison as methods
from experiments.studies.methods.cells import cells, half_of_macs
from experiments.studies.methods.table import percent, section_table, write_table
from pfrl.cost import CostModel
from pfrl.graph import trace
from pfrl.methods.quantization.uniform import FLOAT_BITS
from tests.support.tiny import made, resnet8, shape

BASE = {
    "section": "base",
    "name": "base",
    "seed": 0,
    "costs": {"macs": 2_000_000, "bytes": 4_000},
    "after": 0.875,
}


def line(name, seed, before, after):
    costs = {"macs": 1_000_000, "bytes": 2_500}
    return {
        "section": "channels",
        "name": name,
        "seed": seed,
        "costs": costs,
        "before": before,
        "after": after,
    }


LINES = [
    line("l1", 0, {"pruned": 0.10, "repaired": 0.50}, 0.80),
    line("l2", 0, {"pruned": 0.20}, 0.70),
    line("l1", 1, {"pruned": 0.12, "repaired": 0.54}, 0.82),
]


@pytest.fixture(scope="module")
def graph():
    return trace(made(resnet8), shape(1, 8, 8, 1))


def test_every_cell_is_a_policy_of_the_network(graph):
    found = list(cells())
    names = [(cell.section, cell.name) for cell in found]
    assert len(set(names)) == len(names)
    for cell in found:
        policy = cell.policy(graph)
        assert policy.checked(graph) == policy
        sparse = {layer: share for layer, share in policy.sparsity.items() if share}
        assert cell.gradual == bool(sparse)


def test_criteria_keep_half_of_the_macs_and_no_channel_could_be_added(graph):
    policy = half_of_macs(graph)
    (share,) = set(policy.keep.values())
    assert graph.macs_at(policy.counts(graph)) <= graph.macs / 2
    more = replace(policy, keep=dict.fromkeys(policy.keep, share + 0.001))
    assert graph.macs_at(more.counts(graph)) > graph.macs / 2


def test_together_has_the_bytes_of_four_bits_alone(graph):
    found = {cell.name: cell.policy(graph) for cell in cells() if cell.section == "together"}
    costs = CostModel(graph)
    limit = costs.of(found["4 bits alone"])["bytes"]
    for name, policy in found.items():
        assert costs.of(policy)["bytes"] <= limit, name
    assert set(found["pruned, float"].weight_bits.values()) == {FLOAT_BITS}
    assert set(found["4 bits alone"].keep.values()) == {1.0}


def test_means_and_intervals_by_hand():
    # 0.80 and 0.82: deviation 0.0141, t of one degree of freedom 12.706: 12.706 * 0.01.
    assert percent([0.80, 0.82]) == "81.00 ± 12.71"
    assert percent([0.7]) == "70.00"
    assert percent([]) == "–"


def test_the_rows_of_a_section():
    head, _, first, second = section_table(LINES).replace("\u00a0", " ").splitlines()
    assert head == "|  | pruned | repaired | fine-tuned | MACs | kB | seeds |"
    assert first == "| l1 | 11.00 ± 12.71 | 52.00 ± 25.41 | 81.00 ± 12.71 | 1.0 M | 2.5 | 2 |"
    assert second == "| l2 | 20.00 | – | 70.00 | 1.0 M | 2.5 | 1 |"


def test_a_section_without_training_has_no_column_for_it():
    without = {key: value for key, value in LINES[1].items() if key != "after"}
    head, _, row = section_table([without]).replace("\u00a0", " ").splitlines()
    assert head == "|  | pruned | MACs | kB | seeds |"
    assert row == "| l2 | 20.00 | 1.0 M | 2.5 | 1 |"


def test_the_table_says_the_base_and_what_made_it(tmp_path):
    text = write_table(tmp_path, [BASE, *LINES], ["pfrl methods", "pfrl methods --seeds 2"])
    assert "87.50% of the test images" in text.read_text()
    assert "Made by `pfrl methods`, `pfrl methods --seeds 2`." in text.read_text()


COMMAND = ["methods", "--model", "resnet8", "--data", "digits", "--seeds", "1", "--images", "192",
           "--workers", "1"]  # fmt: skip


@pytest.mark.ci
def test_a_run_goes_on_where_it_ended(tmp_path, capsys, monkeypatch):
    some = [cell for cell in cells() if cell.name in ("4 bits", "2 bits")]
    monkeypatch.setattr(methods, "cells", lambda: some)
    out = tmp_path / "run"
    command = [*COMMAND, "--sections", "codebooks", "--out", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(out / "methods.md")
    history = out / "results.jsonl"
    first = history.read_text().splitlines()
    found = [json.loads(each) for each in first]
    assert [each["name"] for each in found] == ["base", "4 bits", "2 bits"]
    assert found[1]["costs"]["bytes"] > found[2]["costs"]["bytes"]
    assert found[0]["after"] > 0.95
    assert found[1]["before"]["rounded"] > 0.9
    # The last line is cut off, as a kill would; it alone is made again, and comes out the same.
    history.write_text("\n".join([*first[:-1], first[-1][:50]]))
    assert main(command) == 0
    again = [json.loads(each) for each in history.read_text().splitlines()]
    assert again[:-1] == found[:-1]
    for key in ("name", "costs", "before", "after", "zeros"):
        assert again[-1][key] == found[-1][key]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--workers", "-1"], "workers is a whole number from 0, got -1"),
        (["--seeds", "0"], "seeds is a whole number from 1, got 0"),
        (["--sections"], "sections has no value; give one at least"),
        (["--model", "resnet9"], "unknown model 'resnet9'"),
    ],
)
def test_mistakes_are_one_sentence(wrong, sentence, tmp_path, capsys):
    assert main([*COMMAND, *wrong, "--out", str(tmp_path / "run")]) == 2
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("pfrl: ")]
    assert len(said) == 1 and sentence in said[0]
