"""``pfrl inspect`` in the test's own process: its document, or the sentence of a refusal."""

import json

from experiments import cli

RESNET8 = ("--model", "resnet8", "--data", "digits")


def document(capsys, *arguments: str) -> dict:
    """What ``pfrl inspect --json`` prints."""
    assert cli.main(["inspect", *arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments: str) -> str:
    """The one sentence that a wrong command prints."""
    assert cli.main(["inspect", *arguments]) == cli.USER_ERROR
    captured = capsys.readouterr()
    assert captured.out == ""
    *progress, line = captured.err.splitlines()
    assert line.startswith("pfrl: ") and all(each.endswith(" ...") for each in progress)
    return line
