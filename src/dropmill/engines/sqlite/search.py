"""The index of trigrams over `search_texts`, by SQLite's own FTS5 (https://sqlite.org/fts5.html).

It holds no text: triggers keep it in step with the table, from which a row may go at any time.
"""

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dropmill.model.errors import SettingsError

_MAKE = (
    # What is stored is folded already. Without the sizes of columns, which nobody asks for, rows are written faster.
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
    """Make the index, of the rows that there are, unless it is there.

    Raises:
        SettingsError: this SQLite cannot.
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
