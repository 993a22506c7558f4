"""What the settings of every study have in common."""

from dataclasses import dataclass, field, fields
from typing import ClassVar, Self

from experiments.settings.blocks import CommandSettings, SettingsError


@dataclass(frozen=True)
class StudySettings(CommandSettings):
    """Settings of a study, whose folder grows as more jobs are asked for."""

    FREE: ClassVar[tuple[str, ...]] = ()
    """Settings that may change when a study goes on: they add jobs, and change no result."""

    storage: str | None = field(default=None, kw_only=True)
    """Database in which finished jobs are kept, as a URL of SQLAlchemy's such as
    sqlite:///studies.db. Default: results.jsonl in the study's directory alone."""

    def resolved(self) -> Self:
        """See ``CommandSettings``.

        Raises:
          SettingsError: also if there is nothing where several values can be.
        """
        settings = super().resolved()
        for each in fields(settings):
            if getattr(settings, each.name) == ():
                raise SettingsError(f"{each.name} has no value; give one at least")
        return settings
