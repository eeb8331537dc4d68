"""Checks every request and socket, and turns every error into an answer; no other module does that.

Host and origin are checked first: an allowlist of hosts stops DNS rebinding, which an Origin check does not. Then the
guard finds the caller (`dropmill.web.server.caller`), and lets it in if it may do what the route is for
(`dropmill.web.routes`, `dropmill.access.policy`), before anything is looked up. Whose things it sees is the ledger's
matter. Errors are RFC 9457 problem documents. Outside the API, and for its one form, a browser gets a page with the
same text.
"""

import contextlib
import ipaddress
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from quart import Quart, Response, current_app, g, has_request_context, render_template, request, websocket
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import NotFound as NoRoute

from dropmill.model.caller import Authentication, Caller
from dropmill.model.errors import (
    BadRequest,
    DropmillError,
    Forbidden,
    InsecureSignIn,
    LinkEnded,
    MisdirectedRequest,
    RangeNotSatisfiable,
    SignInRequired,
    TooManyConnections,
    TooManyUploads,
    Unavailable,
)
from dropmill.model.events import RefusalReason
from dropmill.model.faults import fault_of
from dropmill.settings import PublicUrl, Settings, split_address
from dropmill.web.routes import (
    PREFLIGHT,
    ROUTES,
    Access,
    Open,
    access_of,
    access_without_route,
    is_there,
    name_of,
    route_of,
)
from dropmill.web.server.accept import preferred_type
from dropmill.web.server.body import BoundedRequest
from dropmill.web.server.browsers import as_browser, give_cookie
from dropmill.web.server.caller import (
    bearer_token,
    caller_if_known,
    client_of,
    find_caller,
    keep_caller,
    refusal_of_vouched,
    shows_credentials,
)
from dropmill.web.server.capacity import capacity_of
from dropmill.web.server.cors import OtherOrigins, keep_origins
from dropmill.web.server.forwarding import OWN_HOST
from dropmill.web.server.headers import refuse_other_meanings
from dropmill.web.server.link_paths import link_path
from dropmill.web.server.rates import UNCOUNTED, RequestRates
from dropmill.web.services import services
from dropmill.wire.encoding import dumps
from dropmill.wire.problem import MEDIA_TYPE, problem_json

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    # not no-referrer: with it, form posts carry `Origin: null`
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

HEADERS_OF_LINKS = {"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow"}

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared, not bound

EXACT = "no-store, no-transform"
"""`Cache-Control` of answers whose bytes or ETag the client relies on: a proxy must not compress or rewrite them
(RFC 9111, section 5.2.2.6)."""

PROBES = frozenset({"/healthz", "/readyz"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORWARDING_HEADERS = (
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Real-Ip",
    "Via",
)


def install(app: Quart, settings: Settings, routes: Mapping[str, Access] = ROUTES, *, is_open: bool = True) -> None:
    """Put the guard in front of an app's routes and sockets.

    Args:
        app: whose.
        settings: of the server.
        routes: who may use which; one that is not there is served to nobody.
        is_open: whether whoever reaches the server may use it without signing in.
    """
    hosts = allowed_hosts(settings)
    others = OtherOrigins(settings.allowed_origin)
    keep_origins(app, others)
    is_open_on_loopback = is_open and settings.auth == "auto"
    hsts = f"max-age={settings.hsts:.0f}" + ("; includeSubDomains" if settings.hsts_subdomains else "")
    rates = None if settings.rate_limit is None else RequestRates(settings.rate_limit)

    async def check(connection: Any, *, is_unsafe: bool) -> None:
        _check_framing(connection)
        if connection.path != "/healthz":  # load balancers probe by address, not by name
            _check_host(connection, hosts)
        if is_open_on_loopback:
            _check_direct(connection)
        if is_unsafe:
            _check_origin(connection, others, settings.public_url)
        if not is_open and bearer_token(connection) is not None:
            require_private(connection, settings)
        caller = await find_caller(connection)
        if rates is not None and route_of(connection) not in UNCOUNTED:
            rates.require(caller, client_of(connection).ip)
        if settings.private and caller is not None and caller.authentication is Authentication.NONE:
            caller = as_browser(caller, connection, settings.base_path)
        if caller is not None:
            keep_caller(caller)
            if is_unsafe:
                _check_own_page(connection, caller, settings.public_url)
        if link_path(connection) is not None:
            _check_visitor(connection, access_of(connection, routes), caller)
        elif connection.url_rule is None or is_there(connection, below_link=False):
            _check_access(access_of(connection, routes), caller)
        else:
            _check_access(access_without_route(connection), caller)
            raise NoRoute

    def require_running(connection: Any) -> None:
        if services().is_draining and connection.path != "/healthz":
            raise Unavailable("The server is stopping; try again in a moment.")

    @app.before_request
    async def _before_request() -> Response | None:
        await check(request, is_unsafe=request.method not in SAFE_METHODS)
        if (answer := others.preflight(request)) is not None:
            return answer  # also while the server stops, or the page would not get to read that it does
        require_running(request)
        if request.path not in PROBES:
            capacity_of(app).require_descriptors()
        if request.method not in SAFE_METHODS:
            refuse_other_meanings(request.headers)
            _end_with_sign_in()
        return None

    @app.teardown_request
    async def _after_handling(_error: BaseException | None) -> None:
        if (held := g.pop("held_body", None)) is not None:
            held.close()

    @app.before_websocket
    async def _before_websocket() -> None:
        # Any page in the browser can open a socket, so it is checked like a request that changes something.
        await check(websocket, is_unsafe=True)
        require_running(websocket)

    @app.after_request
    async def _after_request(response: Response) -> Response:
        if request.endpoint == "static":
            response.headers["Cache-Control"] = "no-cache"  # the browser asks each time
        if _is_framed_twice(request):
            response.headers["Connection"] = "close"  # it is unclear where the next request would begin
        if settings.private and response.status_code < 400:
            give_cookie(response, access_of(request, routes), settings.base_path)
        others.let_read(request, response)
        return _with_headers(response, hsts)

    @app.after_websocket
    async def _after_websocket(response: Any) -> Any:
        return response and _with_headers(response, hsts)  # None unless the socket was refused

    @app.errorhandler(DropmillError)
    async def _refused(error: DropmillError) -> Response:
        _note_refusal(error)
        if isinstance(error, SignInRequired) and _is_page():
            return _to_sign_in(settings.base_path)
        response = await _answer(error.status, error.title, error.detail, error.code, error.extra)
        if isinstance(error, Unavailable | TooManyUploads | TooManyConnections):
            response.headers["Retry-After"] = "5"
        if (retry_after := error.extra.get("retry_after")) is not None:
            response.headers["Retry-After"] = str(retry_after)
        if isinstance(error, RangeNotSatisfiable):
            response.headers["Content-Range"] = f"bytes */{error.extra['size']}"
        if isinstance(error, SignInRequired):
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    @app.errorhandler(OSError)
    async def _shortage(error: OSError) -> Response:
        # Raised by the framework, for example when it opens a template; engines translate theirs.
        log.warning("%s could not be answered: %s", (request if has_request_context() else websocket).path, error)
        return await _refused(fault_of(error, "The server"))

    @app.errorhandler(HTTPException)
    async def _http_error(error: HTTPException) -> Response:
        status = error.code or 500
        title = HTTPStatus(status).phrase
        response = await _answer(status, title, _http_detail(status), _http_code(status), {})
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers.update({k: v for k, v in error.get_headers() if k == "Allow"})
        return response

    @app.errorhandler(Exception)
    async def _unexpected(error: Exception) -> Response:
        log.error("Unexpected error at %s", (request if has_request_context() else websocket).path, exc_info=error)
        detail = "Something went wrong inside Dropmill; the server's log has the traceback."
        return await _answer(500, "Internal error", detail, "internal_error", {})


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Lower-case host names, without port and brackets, that this server answers for."""
    hosts = {_host_name(_bracketed(host)) for host in settings.allowed_host}
    for bind in settings.bind:
        host, _ = split_address(bind)
        hosts.add(_host_name(_bracketed(host)))  # also a wildcard: start-up prints it, and it reaches this machine
        if host in LOOPBACK_NAMES | WILDCARDS:
            hosts |= LOOPBACK_NAMES
    if settings.public_url is not None:
        hosts.add(settings.public_url.host)
    return frozenset(hosts)


def require_private(connection: Any, settings: Settings) -> None:
    """Return if a password or token in this request cannot be read on the way.

    What counts is the name under which the browser reached us: a loopback name leads to its own machine, also through
    a tunnel or into a container.

    Raises:
        InsecureSignIn: the request came over plain http, and not from this machine.
    """
    if settings.insecure_http or connection.scheme in ("https", "wss"):
        return
    if _host_name(connection.headers.get("Host", "")) not in LOOPBACK_NAMES:
        raise InsecureSignIn(
            "Others on the network could read your password or token; use https. In a network that you trust, start "
            "the server with --insecure-http."
        )


def _end_with_sign_in() -> None:
    """Refuse the rest of the current request's body when its caller is signed out, or the link revoked.

    Expiry does not end an upload.
    """
    caller = caller_if_known()
    receiving: BoundedRequest = request._get_current_object()  # type: ignore[attr-defined]  # another task refuses it
    if caller is None or caller.credential is None or receiving.has_arrived:
        return

    async def refuse() -> None:
        signed_out = SignInRequired("You were signed out; the rest of the request was not taken.")
        ended = LinkEnded("The link was revoked; the rest of the request was not taken.")
        receiving.refuse_rest(signed_out if caller.link is None else ended)

    g.held_body = held = contextlib.ExitStack()
    held.enter_context(services().held(caller, refuse, outlives_expiry=True))


def _bracketed(host: str) -> str:
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


def _with_headers(response: Response, hsts: str) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    connection: Any = request if has_request_context() else websocket
    if link_path(connection) is not None:
        response.headers.update(HEADERS_OF_LINKS)
    is_https = connection.scheme in ("https", "wss")
    is_loopback = _host_name(connection.headers.get("Host", "")) in LOOPBACK_NAMES
    if is_https and not is_loopback:
        response.headers.setdefault("Strict-Transport-Security", hsts)
    if not is_https and not is_loopback:
        response.headers.pop("Cross-Origin-Opener-Policy", None)  # browsers ignore it there, and warn
    return response


def _is_framed_twice(connection: Any) -> bool:
    # RFC 9112 section 6.3: both together may be an attempt at request smuggling.
    return "Transfer-Encoding" in connection.headers and "Content-Length" in connection.headers


def _check_framing(connection: Any) -> None:
    if _is_framed_twice(connection):
        raise BadRequest("Content-Length and Transfer-Encoding are both present.")
    if len(connection.headers.getlist("Host")) > 1:
        raise BadRequest("More than one Host header is present.")


def _check_host(connection: Any, hosts: frozenset[str]) -> None:
    # Also the Host that the proxy received: a page can set X-Forwarded-Host, but not Host.
    named = {connection.headers.get("Host", ""), connection.scope.get(OWN_HOST, "")} - {""} or {""}
    if not all(_host_name(header) in hosts for header in named):
        raise MisdirectedRequest(
            "This server does not answer for the host in this request; "
            "start it with --allowed-host to add it (DROPMILL_ALLOWED_HOST)."
        )


def _host_name(header: str) -> str:
    header = header.strip().lower()
    if header.startswith("["):
        try:
            return ipaddress.IPv6Address(header[1:].partition("]")[0].partition("%")[0]).compressed
        except ValueError:
            return ""
    return header.rpartition(":")[0] or header if header.count(":") <= 1 else ""


def _check_direct(connection: Any) -> None:
    for name in FORWARDING_HEADERS:
        if name in connection.headers:
            raise Forbidden(
                f"The request came through a proxy ({name}), but this server is open to its own machine only. "
                "To serve behind a proxy, start it with --trusted-proxy and --public-url; people then sign in. If the "
                "proxy decides who may use it, add --auth off."
            )


def _check_origin(connection: Any, others: OtherOrigins, public: PublicUrl | None) -> None:
    origin = _origin_in(connection)
    if origin in others:
        return
    site = connection.headers.get("Sec-Fetch-Site")
    if site is not None and site != "same-origin":
        raise Forbidden("The request comes from a page of another site.")
    if origin is not None and origin not in _own_origins(connection, public):
        raise Forbidden(
            "The request comes from a page of another origin; start the server with --allowed-origin to allow it."
        )


def _check_own_page(connection: Any, caller: Caller, public: PublicUrl | None) -> None:
    # A browser sends these credentials whichever page asks. Each browser of today says which, at least in one of these.
    # What a page of another site could do with a link's cookie is so little that `SameSite` is enough where neither is
    # sent: programs may keep that cookie, too.
    if caller.authentication not in (Authentication.SESSION, Authentication.HEADER, Authentication.LINK):
        return
    origin = _origin_in(connection)
    is_visitor = caller.authentication is Authentication.LINK
    if origin is None and "Sec-Fetch-Site" not in connection.headers and not is_visitor:
        raise Forbidden(
            "A change with a browser's sign-in must say which page it comes from (Origin, Sec-Fetch-Site); programs "
            "sign in with a token."
        )
    if origin is not None and origin not in _own_origins(connection, public):
        raise Forbidden("A page of another origin signs in with a token; the browser's sign-in is for our own pages.")


def _origin_in(connection: Any) -> str | None:
    """The origin that a request names; None if it names none.

    A form on a page of a link names `null`, because such a page is `no-referrer`; that it is a page of ours says
    `Sec-Fetch-Site`, which no page can set.
    """
    origin: str | None = connection.headers.get("Origin")
    is_own_form = origin == "null" and connection.headers.get("Sec-Fetch-Site") == "same-origin"
    return None if is_own_form else origin


def _own_origins(connection: Any, public: PublicUrl | None) -> set[str]:
    """Origins of our own pages: that of the public URL, and the one that this request was sent to."""
    scheme = {"ws": "http", "wss": "https"}.get(connection.scheme, connection.scheme)
    host = connection.headers.get("Host", "").lower()
    if public is None:
        return {f"{scheme}://{host}"}
    default = ":443" if public.scheme == "https" else ":80"
    if host.removesuffix(default) == public.origin.partition("://")[2]:
        return {public.origin}  # the scheme is unknown behind an untrusted proxy, but the setting has it
    return {public.origin, f"{scheme}://{host}"}


# --- rights ----------------------------------------------------------------------------------------------------------


def _check_access(access: Access, caller: Caller | None) -> None:
    if access is Open.TO_ALL:
        return
    if caller is None:
        if (refusal := refusal_of_vouched()) is not None:
            raise Forbidden(refusal.sentence)
        raise SignInRequired("Sign in, or send a token: Authorization: Bearer TOKEN.")
    if not isinstance(access, Open):
        services().policy.require(caller, access)


def _check_visitor(connection: Any, access: Access, caller: Caller | None) -> None:
    """Return if somebody below a link may do this. Whatever may not be done there is not there."""
    if has_request_context() and request.method == "OPTIONS" and PREFLIGHT in request.headers:
        return
    if not is_there(connection, below_link=True):
        raise NoRoute
    if access is Open.TO_ALL:
        return
    if caller is None or (not isinstance(access, Open) and not services().policy.may(caller, access)):
        raise NoRoute


def _is_page() -> bool:
    """Whether a person asks for a page, and could go on from another one."""
    return has_request_context() and request.blueprint == "pages" and request.method in ("GET", "HEAD")


def _to_sign_in(base: str) -> Response:
    """The way to the page where people sign in, and from there to this one: a path of this server, never an address."""
    asked = request.query_string.decode("latin-1")
    path = f"{base}{request.path}" + (f"?{asked}" if asked else "")
    return Response("", status=303, headers={"Location": f"{base}/sign-in?{urlencode({'next': path})}"})


def _note_refusal(error: DropmillError) -> None:
    """Count for the audit that the current request or socket was refused, if it was for rights or credentials.

    Nobody without credentials is no news; neither is who was signed out during the request. Sign-ins count their own.
    Where nobody signs in, there is nobody to name, and `dropmill doctor` must leave no trace.
    """
    if services().is_open:
        return
    connection: Any = request if has_request_context() else websocket
    caller, refusal = caller_if_known(), refusal_of_vouched()
    account_id = None if caller is None else caller.account_id
    is_bad_header = refusal is not None and refusal.reason is RefusalReason.BAD_HEADER
    if refusal is not None and caller is None and isinstance(error, BadRequest if is_bad_header else Forbidden):
        reason, account_id = refusal.reason, refusal.account_id
    elif isinstance(error, Forbidden) and not isinstance(error, InsecureSignIn):
        reason = RefusalReason.FORBIDDEN
    elif isinstance(error, SignInRequired) and caller is None and shows_credentials(connection):
        reason = RefusalReason.BAD_CREDENTIALS
    else:
        return
    services().refusals.note(reason, client_of(connection), account_id=account_id, route=name_of(connection))


# --- answers ---------------------------------------------------------------------------------------------------------

HTTP_DETAILS = {
    404: "There is nothing at this address.",
    405: "This address does not take that method.",
    400: "The request is malformed.",
}


_SEND_BY_PUT = (
    "Files are sent here with PUT, as curl -T FILE URL/send/ does; a form (curl -F file=@FILE) goes to "
    "/api/v1/submissions."
)


def _http_detail(status: int) -> str:
    if has_request_context():
        if status == HTTPStatus.METHOD_NOT_ALLOWED and _is_below("/send"):
            return _SEND_BY_PUT
        if status == HTTPStatus.NOT_FOUND and request.path.endswith("/") and link_path(request) is None:
            address, adapter = request.path.rstrip("/"), current_app.create_url_adapter(request)
            if address and adapter is not None and adapter.allowed_methods(address):
                return "There is nothing at this address, but there is without the slash at its end."
    return HTTP_DETAILS.get(status, HTTPStatus(status).phrase + ".")


def _http_code(status: int) -> str:
    return HTTPStatus(status).name.lower()


async def _answer(status: int, title: str, detail: str, code: str, extra: Any) -> Response:
    if wants_html():
        with contextlib.suppress(OSError):  # the template cannot be read: answer without it
            page = await render_template(
                "error.html", status=status, title=title, detail=detail, code=code, extra=extra
            )
            return Response(page, status=status, content_type="text/html; charset=utf-8")
    return _problem(status, title, detail, code, extra)


def _problem(status: int, title: str, detail: str, code: str, extra: Any) -> Response:
    document = dumps(problem_json(status, title, detail, code, extra))
    return Response(document, status=status, content_type=MEDIA_TYPE)


FORM_PATH = "/api/v1/submissions"
"""The first page's form posts here when no script runs: the only address of the API that answers with a page."""

API_CLIENT_HEADERS = ("Idempotency-Key", "X-Requested-With", "Tus-Resumable")  # no form sends them


def wants_html() -> bool:
    """Whether the client is a browser that will show the answer to a person."""
    if not has_request_context():
        return False  # browsers do not show the answer to a refused socket
    if request.path == FORM_PATH and request.method == "POST":
        return _is_browser_form()
    if request.method not in ("GET", "HEAD", "POST") or _is_below("/api/v1"):
        return False  # browsers navigate with these methods only, and the API answers scripts, whatever they accept
    return _prefers_html() and not (request.method == "POST" and _is_below("/send"))


def _is_below(path: str) -> bool:
    return f"{request.path}/".startswith(f"{path}/")


def _is_browser_form() -> bool:
    """Whether a browser submits the form without a script, and will show the answer in place of the page.

    `Accept` alone does not decide it: HTTP libraries for scripts copy it from browsers.
    """
    headers = request.headers
    return (
        request.mimetype == "multipart/form-data"
        and _prefers_html()
        and headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
        # A proxy may ask browsers for Basic credentials.
        and headers.get("Authorization", "Basic").lower().startswith("basic")
        and not any(name in headers for name in API_CLIENT_HEADERS)
    )


def _prefers_html() -> bool:
    accepted = request.headers.get("Accept", "")
    best = preferred_type(accepted, ["application/json", "text/html"])
    return best == "text/html" and "text/html" in accepted.lower()  # */* alone is not enough
