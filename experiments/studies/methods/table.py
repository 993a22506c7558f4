"""The table of the methods: means over seeds with intervals, from what is recorded."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.records.history import Line
from experiments.records.wording import DASH, table
from experiments.report.intervals import mean_interval
from pfrl.files import write_text

HEADINGS = {
    "channels": (
        "Which channels stay",
        "Half of the MACs, the same share of every channel group. *Pruned*: as it is;"
        " *statistics*: normalisation statistics re-estimated; *repaired*: least squares before"
        " that; *fine-tuned*: from there.",
    ),
    "sparsity": (
        "Zeros",
        "Shares of zeros over all kernels, by magnitude. *Zeroed*: at once, statistics"
        " re-estimated; *repaired*: the weights that stay refitted by least squares;"
        " *fine-tuned*: from the dense network, with ever more zeros (Zhu-Gupta)."
        " Dense runtimes gain bytes by zeros, not time.",
    ),
    "rounding": (
        "Bit widths without training",
        "Weights and activations alike, the first and the last layer at 8 bits; the network is"
        " otherwise as it was. *Min-max*: grids by extremes. The others: grids of kernels by"
        " least squared error, ranges of activations by percentile, entropy or squared error.",
    ),
    "bits": (
        "Bit widths with training",
        "Weights and activations alike, the first and the last layer at 8 bits."
        " *Min-max* and *mse*: without training, grids by extremes and by squared error,"
        " statistics re-estimated; *fine-tuned*: with rounding in the program, as the row says.",
    ),
    "codebooks": (
        "Codebooks",
        "Every kernel holds 2^bits values (k-means), activations in float.",
    ),
    "together": (
        "Pruning and quantization together",
        "At the bytes of 4-bit weights alone: the same share of every channel group is kept as"
        " the bytes allow. Activations have 8 bits where weights are rounded.",
    ),
}
"""By section, its title and what its columns are."""


def write_table(folder: Path, lines: Sequence[Line], commands: Sequence[str]) -> Path:
    """``methods.md`` from the lines of all networks and the commands that made them."""
    base = next((line for line in lines if line["section"] == "base"), None)
    parts = ["# Compression methods compared\n"]
    if base is not None:
        parts.append(
            f"The base network is right on {base['after']:.2%} of the test images, with"
            f" {base['costs']['macs'] / 1e6:.1f} M MACs and {base['costs']['bytes'] / 1e3:.0f} kB."
            " Percent of the test images, mean over the seeds and the half-width of its 95 %"
            " interval (Student's t); one value stands alone where there is one seed."
            f"\n\nMade by {', '.join(f'`{command}`' for command in commands)}.\n"
        )
    for section, (title, text) in HEADINGS.items():
        mine = [line for line in lines if line["section"] == section]
        if mine:
            parts += [f"## {title}\n", f"{text}\n", section_table(mine), ""]
    return write_text(folder / "methods.md", "\n".join(parts))


def section_table(lines: Sequence[Line]) -> str:
    """The rows of a section, in the order of its lines."""
    names = list(dict.fromkeys(line["name"] for line in lines))
    before = list(dict.fromkeys(stage for line in lines for stage in line["before"]))
    trained = ["fine-tuned"] if any("after" in line for line in lines) else []
    head = ["", *before, *trained, "MACs", "kB", "seeds"]
    rows = []
    for name in names:
        mine = [line for line in lines if line["name"] == name]
        stages = [[x["before"][s] for x in mine if s in x["before"]] for s in before]
        costs = mine[0]["costs"]
        rows.append([
            name,
            *map(percent, stages),
            *(percent(x["after"] for x in mine if "after" in x) for _ in trained),
            f"{costs['macs'] / 1e6:.1f} M",
            f"{costs['bytes'] / 1e3:.1f}",
            str(len(mine)),
        ])  # fmt: skip
    return table(head, rows)


def percent(values: Iterable[float]) -> str:
    """``mean ± half-width`` of shares in percent; a dash for none."""
    values = list(values)
    return mean_interval(values).percent() if values else DASH
