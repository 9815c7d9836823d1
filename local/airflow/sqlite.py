"""How Airflow's processes share one SQLite file: whoever will write waits for its turn before it reads.

Python's sqlite3 begins a transaction at the first write, and lets SAVEPOINT begin one that only reads. When such a
transaction comes to write after another process has, SQLite answers "database is locked" at once, whatever the
timeout (https://www.sqlite.org/rescode.html#busy_snapshot). `airflow backfill create` does just that.
"""

import sqlite3
from typing import Any

WAIT_S = 60.0


class Cursor(sqlite3.Cursor):
    """A cursor that begins a writing transaction before a savepoint."""

    def execute(self, sql: str, parameters: Any = ()) -> "Cursor":
        """Execute as sqlite3 does."""
        if sql.startswith("SAVEPOINT") and not self.connection.in_transaction:
            super().execute("BEGIN IMMEDIATE")
        return super().execute(sql, parameters)


class Connection(sqlite3.Connection):
    """A connection whose cursors are as above."""

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor."""
        return super().cursor(factory or Cursor)


CONNECT_ARGS = {"timeout": WAIT_S, "isolation_level": "IMMEDIATE", "factory": Connection}
"""Airflow's ``[database] sql_alchemy_connect_args``."""
