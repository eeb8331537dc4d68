"""Requests to one server: repeated where that is safe, and explained where they fail.

A failure of the network is waited out, for up to `patience_s`, if the server was reached before. An error that the
server answers is raised.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from dropmill.client.address import TIMEOUT, ServerAddress
from dropmill.client.errors import ClientError, Refused, Unreachable
from dropmill.model.numbers import is_whole_number

PATIENCE_S: Final = 600.0
TRY_AGAIN: Final = frozenset({408, 423, 425, 429, 502, 503, 504})
"""Statuses of answers that may be others in a moment."""

SHORT: Final = httpx.Timeout(5.0)
"""For requests at the end of an interrupted run: a person waits for the prompt."""

WAIT_FIRST_S: Final = 0.5
WAIT_MOST_S: Final = 15.0
"""The pauses between attempts grow from the first to the second."""


class Connection:
    """Sends requests to one server.

    Attributes:
        address: of the server.
        http: the client that sends; a request made with it directly is neither repeated nor explained.
    """

    def __init__(
        self,
        server: str,
        token: str | None,
        patience_s: float,
        on_wait: Callable[[str, float], None],
        *,
        insecure_http: bool,
    ) -> None:
        """Connect to nothing yet. The arguments are those of `ApiClient`.

        Raises:
            ClientError: see `ServerAddress`.
        """
        self.address = ServerAddress(server, token, insecure_http=insecure_http)
        self.http = httpx.Client(base_url=self.address.url, headers=self.address.headers, timeout=TIMEOUT)
        self._patience_s = patience_s
        self._on_wait = on_wait

    def close(self) -> None:
        """Close all sockets."""
        self.http.close()

    def once(self, method: str, path: str, **what: Any) -> httpx.Response:
        """The answer to one request, sent once.

        Raises:
            Unreachable: the server did not answer.
            NotDropmill: something else answered.
            Refused: the answer is an error.
        """
        try:
            response = self.http.request(method, path, **what)
        except httpx.TransportError as error:
            raise self.address.unreachable(error) from None
        if self.address.is_strange(response):
            raise self.address.stranger(response)
        return self.address.accept(response)

    def patiently(self, method: str, path: str, **what: Any) -> httpx.Response:
        """The answer to a request that may be repeated: sent until the server answers or patience is over.

        Raises:
            ClientError: as for `once`.
        """
        retry = Retry(self)
        while True:
            try:
                return self.once(method, path, **what)
            except Unreachable as error:
                retry.wait(error)
            except Refused as error:
                if error.status not in TRY_AGAIN:
                    raise
                retry.wait(error)


class Retry:
    """Waits between the attempts of one request, longer each time. Make a new one after any progress."""

    def __init__(self, connection: Connection) -> None:
        """Start the clock at the first failure."""
        self._connection = connection
        self._since: float | None = None
        self._next_s = WAIT_FIRST_S

    def wait(self, error: ClientError, response: httpx.Response | None = None) -> None:
        """Return when the request should be sent again.

        Args:
            error: why it failed; raised if patience is over, or the server was never reached.
            response: the answer, whose `Retry-After` is respected; None if there was none.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if not self._connection.address.was_reached or now - self._since > self._connection._patience_s:
            raise error
        seconds = self._next_s
        if response is not None and is_whole_number(asked := response.headers.get("Retry-After", "")):
            seconds = max(seconds, min(float(asked), WAIT_MOST_S))
        self._next_s = min(2 * self._next_s, WAIT_MOST_S)
        self._connection._on_wait(str(error), seconds)
        time.sleep(seconds)
