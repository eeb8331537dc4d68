"""Statements that SQLAlchemy compiles once and the driver then executes.

SQLAlchemy caches a statement's text, but each execution costs some 80 microseconds around it, where SQLite needs 5. The
ledger executes here what it does several times for every job; SQLAlchemy executes everything else.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect, Executable, Select

from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.types import Id

Convert = Callable[[Any], Any]


class Form:
    """A statement's text for one set of parameters, and the conversions of its values and columns."""

    def __init__(self, statement: Executable, names: Sequence[str], dialect: Dialect) -> None:
        is_query = isinstance(statement, Select)
        compiled: Any = statement.compile(dialect=dialect, column_keys=None if is_query else list(names))  # type: ignore[attr-defined]
        self.text = str(compiled)
        order = compiled.positiontup
        self._is_positional = order is not None
        # Keyed by the names in the text: those that SQLAlchemy makes for literal values are longer than its own keys.
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        self._bound: list[str] = list(order if self._is_positional else binds)
        self._fixed = {name: compiled.params[name] for name in self._bound if name not in names}
        # One look-up of all values, then a conversion of the few that need it: this runs for every statement.
        self._get: Callable[[Mapping[str, Any]], Iterable[Any]]
        if len(self._bound) > 1:
            self._get = itemgetter(*self._bound)
        else:
            self._get = lambda found: [found[name] for name in self._bound]
        self._to_database: list[tuple[int, Convert]] = []
        for position, name in enumerate(self._bound):
            # An id that is written needs no check: it was made here, or found.
            if is_query or not isinstance(binds[name].type, Id):
                convert = binds[name].type.dialect_impl(dialect).bind_processor(dialect)
                if convert is not None:
                    self._to_database.append((position, convert))
        columns = list(statement.selected_columns) if isinstance(statement, Select) else []
        self._names = [str(column.key) for column in columns]
        converts = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
        self._converts = [
            (name, convert) for name, convert in zip(self._names, converts, strict=True) if convert is not None
        ]

    def bind(self, parameters: Mapping[str, Any]) -> Any:
        """The values in the form that the driver takes."""
        values = list(self._get({**self._fixed, **parameters} if self._fixed else parameters))
        for position, convert in self._to_database:
            values[position] = convert(values[position])
        return values if self._is_positional else dict(zip(self._bound, values, strict=True))

    def row(self, found: Sequence[Any]) -> dict[str, Any]:
        """A row, keyed by the names of its columns."""
        row = dict(zip(self._names, found, strict=True))
        for name, convert in self._converts:
            row[name] = convert(row[name])
        return row


_forms: WeakKeyDictionary[Executable, dict[tuple[str, ...], Form]] = WeakKeyDictionary()


def form_of(connection: Connection, statement: Executable, parameters: Mapping[str, Any]) -> Form:
    """A statement as the driver executes it with such parameters."""
    forms = _forms.setdefault(statement, {})
    names = (connection.dialect.name, *parameters)
    form = forms.get(names)
    if form is None:
        form = forms[names] = Form(statement, names[1:], connection.dialect)
    return form


def one(connection: Connection, query: Select[Any], parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row that a query finds by a key; None if none. Does not support lists of values (`IN`)."""
    form = form_of(connection, query, parameters)
    cursor = connection.connection.cursor()
    try:
        cursor.execute(form.text, form.bind(parameters))
        found = cursor.fetchone()
    finally:
        cursor.close()
    return None if found is None else form.row(found)


def run(connection: Connection, statement: Executable, several: Sequence[Mapping[str, Any]]) -> int:
    """Run an insert or an update once for each mapping, all with the same keys; returns how many rows it changed."""
    form = form_of(connection, statement, several[0])
    cursor = connection.connection.cursor()
    try:
        if len(several) == 1:  # cheaper than `executemany`
            cursor.execute(form.text, form.bind(several[0]))
        else:
            cursor.executemany(form.text, [form.bind(parameters) for parameters in several])
        return int(cursor.rowcount)
    finally:
        cursor.close()


class Statements(Protocol):
    """Executes statements such as these in one transaction."""

    def one(self, query: Select[Any], **parameters: Any) -> Row | None:
        """The row that a query finds by a key; None if none."""

    def run(self, statement: Executable, **parameters: Any) -> None:
        """Run an insert or an update."""
