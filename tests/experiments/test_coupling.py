"""The coupling of layers and groups as Graphviz source and as a picture."""

import json
import re
from xml.etree import ElementTree

from experiments import cli
from tests.support.inspecting import RESNET8


def test_dot_names_every_layer_and_joins_it_to_its_groups(tmp_path, capsys):
    path = tmp_path / "new" / "coupling.dot"
    assert cli.main(["inspect", *RESNET8, "--dot", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    text = path.read_text()
    assert text.startswith("digraph coupling {\n") and text.endswith("}\n")
    assert r'label="conv1\nconv 3×3×1×16\n9.22 k MACs"' in text
    statement = re.compile(
        r'\w+( -> \w+)? \[((\w+=("[^"]*"|\w+)(, )?)+)\];|node \[.*\];|graph \[.*\];'
    )
    lines = [line.strip() for line in text.splitlines()[1:-1]]
    assert [line for line in lines if not statement.fullmatch(line)] == []
    layers = dict(re.findall(r'(layer\d+) \[shape=box,.* label="([\w.]+)\\n', text))
    groups = dict(re.findall(r'(g\d+) \[shape=ellipse,.* label="g\d+: (\d+) channels', text))
    assert list(layers.values())[:2] == ["conv1", "layer1.0.conv1"] and len(layers) == 8
    assert sorted(map(int, groups.values())) == [16, 16, 16, 32, 32, 64]
    chain = re.findall(r"(layer\d+) -> (layer\d+) \[style=invis", text)
    assert chain == list(zip(list(layers)[:-1], list(layers)[1:], strict=True))
    made, read = re.findall(r"(layer\d+) -> g2 ", text), re.findall(r"g2 -> (layer\d+) ", text)
    assert [layers[name] for name in made] == ["layer1.0.conv1"]
    assert [layers[name] for name in read] == ["layer1.0.conv2"]
    colours = set(re.findall(r'(?:-> g2|g2 ->|g2 \[).*?color="(#\w+)"', text))
    assert len(colours) == 1


def test_svg_is_whole_and_names_layers_groups_and_sizes(tmp_path, capsys):
    path = tmp_path / "coupling.svg"
    arguments = ["inspect", *RESNET8, "--json", "--svg", str(path)]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    # Standard output is the document alone.
    assert json.loads(captured.out)["macs"] == 747_136
    assert captured.err.splitlines()[-1] == str(path)
    root = ElementTree.fromstring(path.read_bytes())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    written = [text.strip() for element in root.iter() for text in [element.text or ""]]
    assert "What goes together in resnet8: 8 layers, 6 channel groups" in written
    for text in ("layer3.0.conv2", "linear", "g6", "frozen", "64", "reads them"):
        assert text in written
    first = path.read_bytes()
    assert cli.main(arguments) == 0
    assert path.read_bytes() == first


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path, capsys):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    assert cli.main(["inspect", *RESNET8, "--svg", str(taken / "a.svg")]) == cli.USER_ERROR
    assert "cannot write" in capsys.readouterr().err
    assert taken.read_text() == "mine"
