"""Requests to one server: repeated where that is safe, and explained where they fail.

A failure of the network is waited out, for up to `patience_s`, if the server was reached before. An error that the
server answers is raised. If something else answers, the error says whether a proxy of the environment is the reason.
"""

import time
import urllib.request
from collections.abc import Callable
from typing import Any, Final

import httpx

from dropmill import __version__
from dropmill.client.errors import ClientError, NotDropmill, Refused, Unreachable, refusal
from dropmill.model.numbers import is_whole_number
from dropmill.wire.problem import MEDIA_TYPE as PROBLEM

PATIENCE_S: Final = 600.0
TRY_AGAIN: Final = frozenset({408, 423, 425, 429, 502, 503, 504})
"""Statuses of answers that may be others in a moment."""

SHORT: Final = httpx.Timeout(5.0)
"""For requests at the end of an interrupted run: a person waits for the prompt."""

_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)  # the last answer of an upload may take 10 s: the file is stored
_DIRECT_S: Final = 5.0  # for the one request that asks whether the server answers without the proxy
_WAIT_FIRST_S: Final = 0.5
_WAIT_MOST_S: Final = 15.0


class Connection:
    """Sends requests to one server.

    Attributes:
        url: of the server, without a slash at its end.
        http: the client that sends; a request made with it directly is neither repeated nor explained.
    """

    def __init__(
        self, server: str, token: str | None, patience_s: float, on_wait: Callable[[str, float], None]
    ) -> None:
        """Connect to nothing yet. The arguments are those of `ApiClient`.

        Raises:
            ClientError: `server` is not a URL of http or https.
        """
        self.url = (server if "://" in server else f"http://{server}").rstrip("/")
        headers = {"User-Agent": f"dropmill/{__version__}", "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            url = httpx.URL(self.url)
            if url.scheme not in ("http", "https") or not url.host:
                raise ClientError(f"{server!r} is not the address of a server, such as http://127.0.0.1:8000.")
            self.http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT)
        except (httpx.InvalidURL, UnicodeError):
            raise ClientError(f"{server!r} is not the address of a server, such as http://127.0.0.1:8000.") from None
        self._patience_s = patience_s
        self._on_wait = on_wait
        self._was_reached = False

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
            raise self.unreachable(error) from None
        if not (self._was_reached or _is_ours(response) or response.has_redirect_location):
            raise self.stranger(response)
        if not response.is_success:
            raise refusal(response)
        self._was_reached = True
        return response

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

    def unreachable(self, error: httpx.TransportError) -> Unreachable:
        """The error to raise for a request that got no answer."""
        reason: BaseException = error
        while reason.__cause__ is not None or reason.__context__ is not None:
            reason = reason.__cause__ or reason.__context__ or reason
        said = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        said = said or type(error).__name__
        proxy = self._proxy()
        if proxy is not None and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            return Unreachable(f"{proxy} cannot be reached ({said}); to go without it, set NO_PROXY={self._host}.")
        return Unreachable(f"{self.url} cannot be reached ({said}).")

    def stranger(self, response: httpx.Response) -> NotDropmill:
        """The error to raise for an answer that is not Dropmill's; asks who answers without the proxy."""
        kind = response.headers.get("Content-Type", "").partition(";")[0] or "no content"
        answer = f"{response.status_code} {response.reason_phrase}".rstrip() + f", {kind}"
        proxy = self._proxy()
        if proxy is None:
            return NotDropmill(f"{self.url} is not a Dropmill server (it answered {answer}).")
        match self._is_there_directly():
            case True:
                return NotDropmill(
                    f"{proxy} answered in place of {self.url} ({answer}), which can be reached without it; "
                    f"set NO_PROXY={self._host}."
                )
            case False:
                return NotDropmill(f"{self.url} is not a Dropmill server, neither through {proxy} nor without it.")
        return NotDropmill(
            f"{proxy} brought an answer from {self.url} that is not Dropmill's ({answer}); "
            f"without it {self.url} cannot be reached."
        )

    @property
    def _host(self) -> str:
        return httpx.URL(self.url).host

    def _proxy(self) -> str | None:
        """The proxy that the environment names for this server, in words; None if there is none."""
        scheme = httpx.URL(self.url).scheme
        proxies = urllib.request.getproxies()
        for name in (scheme, "all"):
            if proxies.get(name) and not urllib.request.proxy_bypass(self._host):
                address = proxies[name] if "://" in proxies[name] else f"http://{proxies[name]}"
                shown = httpx.URL(address).copy_with(username=None, password=None, path="/")
                return f"The proxy {str(shown).rstrip('/')} ({name}_proxy)"
        return None

    def _is_there_directly(self) -> bool | None:
        """Whether Dropmill answers without the proxy; None if nobody does."""
        try:
            answer = httpx.get(f"{self.url}/healthz", trust_env=False, timeout=_DIRECT_S)
            return bool(answer.is_success and answer.json() == {"ok": True})
        except httpx.TransportError:
            return None
        except ValueError:
            return False


class Retry:
    """Waits between the attempts of one request, longer each time. Make a new one after any progress."""

    def __init__(self, connection: Connection) -> None:
        """Start the clock at the first failure."""
        self._connection = connection
        self._since: float | None = None
        self._next_s = _WAIT_FIRST_S

    def wait(self, error: ClientError, response: httpx.Response | None = None) -> None:
        """Return when the request should be sent again.

        Args:
            error: why it failed; raised if patience is over, or the server was never reached.
            response: the answer, whose `Retry-After` is respected; None if there was none.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if not self._connection._was_reached or now - self._since > self._connection._patience_s:
            raise error
        seconds = self._next_s
        if response is not None and is_whole_number(asked := response.headers.get("Retry-After", "")):
            seconds = max(seconds, min(float(asked), _WAIT_MOST_S))
        self._next_s = min(2 * self._next_s, _WAIT_MOST_S)
        self._connection._on_wait(str(error), seconds)
        time.sleep(seconds)


def _is_ours(response: httpx.Response) -> bool:
    """Whether an answer can be Dropmill's own."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    return bool(kind == ("application/json" if response.is_success else PROBLEM))
