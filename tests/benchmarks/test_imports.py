"""The table of files that are imported, halved and exported."""

import pytest

from benchmarks.files.imports import row
from tests.support.torch_networks import NETWORKS, exported, randomised


@pytest.mark.ci
def test_a_file_has_its_row_and_one_that_is_refused_says_why(tmp_path):
    _, macs, groups, share, *_, difference, _ = row(
        exported(randomised(NETWORKS["ConvNeXt"]()), tmp_path / "net.onnx"), 0
    )
    assert macs.endswith("k") and groups == "2" and 0 < float(share.split()[0]) < 50
    assert float(difference) < 1e-4
    (tmp_path / "text.onnx").write_text("no network")
    assert "text.onnx" in row(tmp_path / "text.onnx", 0)[3]
