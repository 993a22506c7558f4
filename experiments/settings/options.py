"""From the words behind a command to its settings: one place for options, help and mistakes."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar
from unittest.mock import patch

import tyro
from docstring_parser import Docstring, parse_from_object

from experiments.settings.blocks import CommandSettings, SessionBlock, SettingsError

Settings = TypeVar("Settings", bound=CommandSettings)


def read(
    kind: type[Settings], name: str, arguments: Sequence[str], description: str
) -> tuple[Settings, SessionBlock]:
    """The settings of a command, checked; ends the program on ``--help`` and wrong options.

    Args:
      kind: of settings.
      name: of the command.
      arguments: behind it.
      description: what it does, for its help.

    Raises:
      SettingsError: a subclass of ValueError, if they do not go together.
    """

    def both(
        settings: Annotated[Any, tyro.conf.arg(name="")],
        session: Annotated[SessionBlock, tyro.conf.arg(name="")],
    ) -> tuple[Settings, SessionBlock]:
        return settings, session

    both.__annotations__["settings"] = Annotated[kind, tyro.conf.arg(name="")]
    _check_named(kind, name, arguments)
    with patch("docstring_parser.parse_from_object", _paragraphs):
        settings, session = tyro.cli(
            both, prog=f"pfrl {name}", description=description, args=arguments
        )
    return settings.resolved() if hasattr(settings, "resolved") else settings, session


def _check_named(kind: type[CommandSettings], name: str, arguments: Sequence[str]) -> None:
    """Say which option a network is given by, where it stands behind the command alone.

    Raises:
      SettingsError: if it does.
    """
    fields = dataclasses.fields(kind)
    takes = {field.name for field in fields} & {"network", "model"}
    by_place = any("Positional" in str(field.type) for field in fields)
    if arguments and not arguments[0].startswith("-") and takes and not by_place:
        raise SettingsError(
            f"'{arguments[0]}' has no option before it; a network is pfrl {name} --model"
            f" {arguments[0]}, and pictures are --data imagefolder:PATH or images:PATH"
        )


def _paragraphs(kind: type) -> Docstring:
    """What a class says of its attributes, without the line breaks of its source, at which tyro
    would break help texts once more."""
    found = parse_from_object(kind)
    for each in found.params:
        each.description = each.description and " ".join(each.description.split())
    return found
