"""Pages of other origins that may call the API (`--allowed-origin`): the CORS protocol of the Fetch standard.

A browser sends most requests of such a page after a preflight alone, and shows the page the answers that name its
origin. Other origins get the same answers without these headers, so the browser keeps them to itself. Refusing their
changes and sockets is the guard's task: a browser sends some changes without a preflight.

`Access-Control-Allow-Credentials` is never sent: cookies, and what a proxy adds, are for our own pages
(`SameSite=Lax`). A page of another origin signs in with a token in `Authorization`.

See https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from quart import Request, Response

from dropmill.web.routes import PREFLIGHT, is_api

EXTENSION: Final = "dropmill.origins"

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

REQUEST_HEADERS: Final = (
    *("Authorization", "Content-Type", "Idempotency-Key", "X-Requested-With"),
    *("If-Match", "If-None-Match", "If-Range", "Range", "Dropmill-Message", "Last-Event-ID"),
    *("Repr-Digest", "Content-Digest", "Upload-Checksum", "Upload-Complete"),
    *("Tus-Resumable", "Upload-Defer-Length", "Upload-Length", "Upload-Metadata", "Upload-Offset"),
    "X-HTTP-Method-Override",
)
"""What the API reads, and `X-Requested-With`, which upload clients send unasked."""

ANSWER_HEADERS: Final = (
    *("Location", "ETag", "Retry-After", "WWW-Authenticate", "X-Request-Id"),
    *("Accept-Ranges", "Content-Disposition", "Content-Range", "Dropmill-Offset"),
    *("Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Checksum-Algorithm", "Tus-Max-Size"),
    *("Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Metadata", "Upload-Offset"),
)
"""What the API answers with, besides the headers that every page may read."""

MAX_AGE_S: Final = 7200  # the most that Chromium keeps the answer to a preflight


class OtherOrigins:
    """The origins, besides our own, whose pages may call the API."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """Allow these, each in the form in which browsers send it (`settings.values.origin`); none for nobody."""
        self._allowed = frozenset(allowed)

    def __contains__(self, origin: str | None) -> bool:
        """Whether an origin is allowed; None, which is no browser's page, is not."""
        return origin in self._allowed

    def preflight(self, request: Request) -> Response | None:
        """The answer to a preflight for an address of the API; None: the request is no such thing.

        The answer is the same for each address, whether there is one or not, so it tells nobody which there are.
        """
        headers = request.headers
        if request.method != "OPTIONS" or PREFLIGHT not in headers or not is_api(request.path):
            return None
        response = Response(status=204)
        if headers.get("Origin") in self:
            response.headers["Access-Control-Allow-Methods"] = ", ".join(METHODS)
            response.headers["Access-Control-Allow-Headers"] = ", ".join(REQUEST_HEADERS)
            response.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
        return response

    def let_read(self, request: Request, response: Response) -> None:
        """Let the page that sent a request read the answer, if both its origin and the address are for that."""
        if not self._allowed or not is_api(request.path):
            return
        response.vary.add("Origin")  # also of answers to others: a cache must not give them to an allowed page
        response.headers.update(self.headers_for(request.headers.get("Origin")))

    def headers_for(self, origin: str | None) -> Mapping[str, str]:
        """The headers that let the page of an allowed origin read an answer; none for another one."""
        if origin is None or origin not in self:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": ", ".join(ANSWER_HEADERS),
            "Cross-Origin-Resource-Policy": "cross-origin",
        }

    @property
    def headers_for_unread(self) -> Mapping[str, str]:
        """The headers of an answer to a request whose origin was not read.

        Its head is too large, or its connection one too many. Every page may read that, because it says nothing of
        anybody; otherwise an allowed page would take a server that asks it to come back for one that is away.
        """
        if not self._allowed:
            return {}
        return {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": "Retry-After",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }


NOBODY: Final = OtherOrigins(())


def keep_origins(app: Any, others: OtherOrigins) -> None:
    """Make `origins_of` return them."""
    app.extensions[EXTENSION] = others


def origins_of(app: Any) -> OtherOrigins:
    """The other origins of an app, which Hypercorn may have wrapped."""
    found: OtherOrigins | None = getattr(app, "app", app).extensions.get(EXTENSION)
    return found or NOBODY
