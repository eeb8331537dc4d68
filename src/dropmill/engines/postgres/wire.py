"""Statements that are sent together and answered together: libpq's pipeline mode, without the driver's cursors.

A cursor costs some 50 microseconds for each statement: it looks at the types of parameters, and waits after each. Here
parameters are texts, whose types the server knows from the statement, and nothing waits before `sync`. Each statement
is prepared once for each connection (https://www.postgresql.org/docs/15/libpq-pipeline-mode.html).
"""

import itertools
import select
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult

_names: "WeakKeyDictionary[psycopg.Connection[Any], dict[bytes, bytes]]" = WeakKeyDictionary()
"""Of each connection, the statements that are prepared, with their names."""
_numbers = itertools.count()


def forget_statements(driver: "psycopg.Connection[Any]") -> None:
    """Prepare every statement anew: the driver says DEALLOCATE ALL with its ROLLBACK."""
    _names.pop(driver, None)


class Answer:
    """What the server will have answered to a statement after `Wire.sync`."""

    def __init__(self, driver: "psycopg.Connection[Any]") -> None:
        self._driver = driver
        self.result: PGresult | None = None

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        if self.result is None:
            return []
        reading = Transformer(self._driver)
        reading.set_pgresult(self.result)
        return reading.load_rows(0, self.result.ntuples, tuple)


class Wire:
    """One connection; used by one thread, between the driver's own statements."""

    def __init__(self, driver: "psycopg.Connection[Any]") -> None:
        self._driver = driver
        self._pgconn = driver.pgconn
        self._prepared = _names.setdefault(driver, {})
        self._sent: list[tuple[Answer, bytes | None]] = []  # a statement's text if it is about to be prepared
        self._is_in = False
        self._poll = select.poll()

    def send(self, text: bytes, parameters: Sequence[bytes | None] = ()) -> Answer:
        """Send a statement with parameters $1, $2, ..."""
        self._enter()
        name = self._prepared.get(text)
        if name is None:
            name = self._prepared[text] = b"dropmill_%d" % next(_numbers)  # one that no connection ever had
            self._pgconn.send_prepare(name, text)
            self._sent.append((Answer(self._driver), text))
        self._pgconn.send_query_prepared(name, parameters)
        return self._answer()

    def send_once(self, text: bytes) -> Answer:
        """Send a statement that is not worth preparing."""
        self._enter()
        self._pgconn.send_query_params(text, None)
        return self._answer()

    def roll_back(self) -> None:
        """End the transaction, whatever state it is in, and leave."""
        with suppress(psycopg.Error):
            self.sync()  # what failed is why
        self.send_once(b"ROLLBACK")
        self.leave()

    def sync(self) -> None:
        """Wait until everything sent is answered.

        The message Sync, not only a Flush: without it, the server would not see that the transaction stands still until
        the next statement comes (`idle_in_transaction_session_timeout`).

        Raises:
            psycopg.Error: of the first statement that failed; those behind it were not executed.
        """
        self._enter()
        sent, self._sent = self._sent, []
        self._pgconn.pipeline_sync()
        failure: psycopg.Error | None = None
        try:
            for answer, prepares in sent:
                answer.result, error = self._result_of_one()
                if answer.result is None and prepares is not None:
                    del self._prepared[prepares]
                failure = failure or error
            self._next()  # of the Sync
        except psycopg.Error:
            self._prepared.clear()  # the connection is broken
            raise
        if failure is not None:
            raise failure

    def leave(self) -> None:
        """Wait as `sync` does, and leave the connection to the driver."""
        if self._is_in:
            try:
                self.sync()
            finally:
                self._is_in = False
                if self._pgconn.status == ConnStatus.OK:
                    self._pgconn.exit_pipeline_mode()

    def _enter(self) -> None:
        if not self._is_in:
            self._pgconn.enter_pipeline_mode()
            self._poll = select.poll()
            self._is_in = True

    def _answer(self) -> Answer:
        answer = Answer(self._driver)
        self._sent.append((answer, None))
        return answer

    def _result_of_one(self) -> tuple[PGresult | None, psycopg.Error | None]:
        """The answer to one statement: its result if it was executed, its error if it failed."""
        found: PGresult | None = None
        error: psycopg.Error | None = None
        while (result := self._next()) is not None:
            if result.status == ExecStatus.FATAL_ERROR:
                if self._pgconn.status == ConnStatus.BAD:
                    raise psycopg.OperationalError(result.get_error_message())
                error = error_from_result(result)
            elif result.status != ExecStatus.PIPELINE_ABORTED:
                found = result
        return found, error

    def _next(self) -> PGresult | None:
        """The next result; None behind the last one of a statement. Other threads run while this one waits."""
        is_writing = bool(self._pgconn.flush())
        while is_writing or self._pgconn.is_busy():
            self._poll.register(self._pgconn.socket, select.POLLIN | (select.POLLOUT if is_writing else 0))
            [(_, events)] = self._poll.poll()
            if events & ~select.POLLOUT:
                self._pgconn.consume_input()
            if is_writing:
                is_writing = bool(self._pgconn.flush())
        return self._pgconn.get_result()
