"""The finished jobs of a study as rows of a database, by SQLAlchemy, in place of results.jsonl."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from experiments.records.history import Line
from experiments.settings.blocks import SettingsError
from pfrl.files import FileError


class DatabaseLines:
    """The lines of one study in the table ``pfrl_results`` (study, number, line as JSON).

    Args:
      url: of SQLAlchemy, such as sqlite:///studies.db or postgresql://host/name.
      study: what tells it from others of the database.

    Raises:
      SettingsError: if it is no such URL, its driver is missing, or it has a password.
    """

    def __init__(self, url: str, study: str):
        import sqlalchemy as sql
        from sqlalchemy.exc import ArgumentError

        try:
            parsed = sql.make_url(url)
            if parsed.password is not None:
                raise SettingsError(
                    "--storage is written down in config.json; leave its password to the"
                    " environment or a file of the database's client, such as PGPASSWORD or"
                    " ~/.pgpass"
                )
            self._engine = sql.create_engine(parsed)
        except (ArgumentError, ImportError) as error:
            raise SettingsError(
                f"--storage cannot be used ({error}); give a URL as of SQLAlchemy, such as"
                " sqlite:///studies.db"
            ) from error
        self._sql: Any = sql
        self._study, self.name = study, str(parsed)
        self._table = sql.Table(
            "pfrl_results",
            sql.MetaData(),
            sql.Column("study", sql.String(700), index=True),
            sql.Column("number", sql.Integer, primary_key=True),
            sql.Column("line", sql.Text),
        )

    def read(self) -> list[Line]:
        """All lines in their order; none if there is no table yet."""
        sql, table = self._sql, self._table
        with self._connected() as connection:
            if not sql.inspect(connection).has_table(table.name):
                return []
            query = sql.select(table.c.line).where(table.c.study == self._study)
            return [json.loads(text) for (text,) in connection.execute(query.order_by("number"))]

    def mend(self) -> list[Line]:
        """``read``: a kill leaves no half of a row."""
        return self.read()

    def append(self, line: Line) -> None:
        """One more line, in the database when this returns."""
        with self._connected() as connection:
            self._table.metadata.create_all(connection)
            row = {"study": self._study, "line": json.dumps(line)}
            connection.execute(self._table.insert(), row)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except self._sql.exc.DBAPIError as error:
            raise FileError(
                f"the database {self.name} does not answer ({error.orig}); start the same command"
                " again when it does: what was finished is kept"
            ) from error
