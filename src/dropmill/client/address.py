"""The server that a client speaks to: its URL, what every request carries, and why an answer did not come from it.

If something else answers, or nobody, the error says whether a proxy of the environment is the reason.
"""

import urllib.request
from http import HTTPStatus
from typing import Final

import httpx

from dropmill import __version__
from dropmill.client.errors import ClientError, NotDropmill, Unreachable, refusal
from dropmill.model.hosts import is_loopback
from dropmill.wire.problem import MEDIA_TYPE as PROBLEM

TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)  # the last answer of an upload may take 10 s: the file is stored

_DIRECT_S: Final = 5.0  # for the one request that asks whether the server answers without the proxy


class ServerAddress:
    """One server, as one client sees it.

    Attributes:
        url: of the server, without a slash at its end.
        headers: of every request.
        was_reached: whether Dropmill has answered; from then on a failure is waited out.
    """

    def __init__(self, server: str, token: str | None, *, insecure_http: bool = False) -> None:
        """Parse `server`, which is http if it has no scheme. `token` goes with every request; None sends none.

        Raises:
            ClientError: `server` is not a URL of http or https; or the token would cross a network in plain http, and
                not `insecure_http`.
        """
        self.url = (server if "://" in server else f"http://{server}").rstrip("/")
        self.headers = {"User-Agent": f"dropmill/{__version__}", "Accept": "application/json"}
        if token is not None:
            self.headers["Authorization"] = f"Bearer {token}"
        try:
            url = httpx.URL(self.url)
        except (httpx.InvalidURL, UnicodeError):
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise ClientError(f"{server!r} is not the address of a server, such as http://127.0.0.1:8000.")
        if token is not None and url.scheme == "http" and not is_loopback(url.host) and not insecure_http:
            raise ClientError(
                f"{self.url} is plain http: others on the network could read the token. Use https; in a network that "
                "you trust, --insecure-http."
            )
        self.was_reached = False

    def is_strange(self, response: httpx.Response) -> bool:
        """Whether an answer cannot be Dropmill's, and Dropmill has never answered; `stranger` is its error."""
        return not (self.was_reached or _is_ours(response) or response.has_redirect_location)

    def accept(self, response: httpx.Response) -> httpx.Response:
        """An answer that is not strange and no error.

        Raises:
            Refused: it is an error.
        """
        if not response.is_success:
            raise refusal(response)
        self.was_reached = True
        return response

    def unreachable(self, error: Exception) -> Unreachable:
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


def _is_ours(response: httpx.Response) -> bool:
    """Whether an answer can be Dropmill's own."""
    if response.status_code == HTTPStatus.NO_CONTENT:  # nothing in it says whose it is
        return True
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    return bool(kind == ("application/json" if response.is_success else PROBLEM))
