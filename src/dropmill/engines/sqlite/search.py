"""The index of trigrams over `search_texts`, with SQLite's FTS5 (https://sqlite.org/fts5.html).

It holds no text of its own; triggers update it whenever a row of the table is added, changed or deleted.
"""

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dropmill.model.errors import SettingsError

_MAKE = (
    # Stored texts are folded already. Rows are written faster without the sizes of columns, which no query uses.
    "CREATE VIRTUAL TABLE search_index USING fts5(text, content='search_texts', content_rowid='id', columnsize=0,"
    " tokenize='trigram case_sensitive 1')",
    "CREATE TRIGGER search_texts_added AFTER INSERT ON search_texts BEGIN"
    " INSERT INTO search_index(rowid, text) VALUES (new.id, new.text); END",
    "CREATE TRIGGER search_texts_removed AFTER DELETE ON search_texts BEGIN"
    " INSERT INTO search_index(search_index, rowid, text) VALUES ('delete', old.id, old.text); END",
    "CREATE TRIGGER search_texts_changed AFTER UPDATE ON search_texts BEGIN"
    " INSERT INTO search_index(search_index, rowid, text) VALUES ('delete', old.id, old.text);"
    " INSERT INTO search_index(rowid, text) VALUES (new.id, new.text); END",
    "INSERT INTO search_index(search_index) VALUES ('rebuild')",
)


def make_search_index(connection: Connection) -> None:
    """Make the index and fill it from the table, unless it exists.

    Raises:
        SettingsError: this SQLite lacks FTS5 or its trigram tokenizer.
    """
    there = "SELECT 1 FROM sqlite_master WHERE name = 'search_index'"
    if connection.exec_driver_sql(there).first() is not None:
        return
    try:
        for statement in _MAKE:
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if "fts5" in str(error.orig) or "tokenizer" in str(error.orig):
            raise SettingsError("This Python's SQLite is too old: 3.34 or newer, with FTS5, is needed.") from error
        raise
