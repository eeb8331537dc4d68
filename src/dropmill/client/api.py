"""A client of Dropmill's HTTP API, as the command line uses it: resumable uploads, submissions, events.

Blocking, one request at a time. It knows the public contract and nothing of the server's inside. What a network does to
a request that may be repeated is waited out here, for up to `patience_s`; what the server refuses is raised.

    ClientError
    ├── Unreachable      the server cannot be reached, or not any more
    ├── NotDropmill      something else answered: another server, or a proxy
    ├── SourceChanged    a file was changed while it was read
    └── Refused          it answered with an error
        └── UploadLost   it has no such upload any more; announce the file again
"""

import base64
import hashlib
import os
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import httpx

from dropmill import __version__
from dropmill.model.numbers import is_whole_number, whole_number

Json = dict[str, Any]

CHUNK_MIN = 256 * 1024
CHUNK_MAX = 16 * 1024 * 1024
CHUNK_FIRST = 1024 * 1024  # under the body limit of a proxy that nobody has set up for uploads (nginx: 1 MiB)
CHUNK_S = 2.0
"""A chunk is made larger while one takes less than this, smaller when it takes several times as long: of a chunk that
is cut nothing counts, and between two the line is idle for a round trip."""

PIECE = 256 * 1024  # handed to the connection at once; also how often progress is told
CHECKSUM_TRIES = 5  # of one chunk whose bytes arrive as others
ANNOUNCED_MAX = 1000  # files of one announcement
PAGE = 1000  # items of one page of a list
WAIT_S = 25  # of one long poll

DIRECT_S = 5.0  # for the one question whether a server is there without the proxy

PATIENCE_S = 600.0
WAIT_FIRST_S, WAIT_MOST_S = 0.5, 15.0  # between two tries; doubled each time

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # the last answer of an upload may take 10 s: its file is being stored
_SHORT = httpx.Timeout(5.0)  # of what is asked when a run ends early: a person waits for the prompt
_TIMEOUT_STATUS = 408
TRY_AGAIN = frozenset({_TIMEOUT_STATUS, 423, 425, 429, 502, 503, 504})
_CHECKSUM_MISMATCH = 460
_OFFSET_MISMATCH = 409
_TOO_LARGE = 413
_TUS = {"Tus-Resumable": "1.0.0"}


class ClientError(Exception):
    """Something that a person should read: the exception's text is one sentence."""


class Unreachable(ClientError):
    """The server does not answer."""


class NotDropmill(ClientError):
    """What answers is not Dropmill."""


class SourceChanged(ClientError):
    """A file is not any more what was announced; what was read of it is no file that ever was."""


class Refused(ClientError):
    """The server, or a proxy on the way, answered with an error.

    Attributes:
        status: of the answer.
        code: the server's own stable word for it; None if somebody else answered, or the answer has no body.
    """

    def __init__(self, response: httpx.Response) -> None:
        """Read the answer's problem document, if it is one."""
        self.status = response.status_code
        self.code: str | None = None
        sentence = f"{response.request.url} answered {self.status} {response.reason_phrase}".rstrip() + "."
        if response.has_redirect_location:
            sentence = f"{response.request.url} has moved to {response.headers['Location']}; use that address."
        elif response.headers.get("Content-Type", "").startswith("application/problem+json") and response.content:
            problem = _json(response)
            self.code = str(problem.get("code"))
            sentence = f"{problem.get('detail') or problem.get('title')} ({self.status})"
        super().__init__(sentence)


class UploadLost(Refused):
    """The upload was ended, or its time was over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Announcement:
    """A file that will come.

    Attributes:
        path: relative, with `/` between folders.
        size: in bytes.
    """

    path: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file as the server knows it.

    Attributes:
        state: `announced`, `receiving`, `stored` or `aborted`.
        sha256: in hexadecimal; None until stored.
        error: why it was aborted; None if it was not.
    """

    id: str
    path: str
    state: str
    sha256: str | None
    error: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EventPage:
    """Events as the contract has them, oldest first.

    Attributes:
        cursor: where to go on.
        has_gap: whether older events behind the cursor that was asked for may have been removed.
    """

    events: Sequence[Json]
    cursor: int
    has_gap: bool


class ApiClient:
    """Speaks to one server. To be used as a context manager."""

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        patience_s: float = PATIENCE_S,
        on_wait: Callable[[str, float], None] = lambda reason, seconds: None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            server: its URL; without a scheme it is taken as http.
            token: for `Authorization: Bearer`; None sends none.
            patience_s: how long a server that was reached before may be away, in seconds, without any progress.
            on_wait: told why something is tried again, and in how many seconds.

        Raises:
            ClientError: the URL is none.
        """
        self.url = (server if "://" in server else f"http://{server}").rstrip("/")
        headers = {"User-Agent": f"dropmill/{__version__}", "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            url = httpx.URL(self.url)
            if url.scheme not in ("http", "https") or not url.host:
                raise ClientError(f"{server!r} is no address of a server, such as http://127.0.0.1:8000.")
            self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT)
        except (httpx.InvalidURL, UnicodeError):
            raise ClientError(f"{server!r} is no address of a server, such as http://127.0.0.1:8000.") from None
        self._patience_s = patience_s
        self._on_wait = on_wait
        self._was_reached = False
        self._chunk_max = CHUNK_MAX

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    # --- submissions -------------------------------------------------------------------------------------------------

    def open_submission(self, files: Sequence[Announcement]) -> str:
        """Open a submission for files to come; returns its id.

        Raises:
            ClientError: it cannot be opened. After a connection is lost one may be open that nobody knows of; the
                server seals it.
        """
        first, rest = files[:ANNOUNCED_MAX], files[ANNOUNCED_MAX:]
        made = self._once("POST", "/api/v1/submissions", json=_announced(first))
        submission_id = _json(made).get("id")
        if not isinstance(submission_id, str):
            raise self._stranger(made)
        self.announce(submission_id, rest)
        return submission_id

    def announce(self, submission_id: str, files: Sequence[Announcement]) -> None:
        """Name further files of an open submission.

        Raises:
            ClientError: not all could be announced.
        """
        for begin in range(0, len(files), ANNOUNCED_MAX):
            announced = _announced(files[begin : begin + ANNOUNCED_MAX])
            self._once("POST", f"/api/v1/submissions/{submission_id}/files", json=announced)

    def submission(self, submission_id: str) -> Json:
        """A Submission of the contract, with its first files.

        Raises:
            ClientError: there is none.
        """
        return _json(self._patiently("GET", f"/api/v1/submissions/{submission_id}"))

    def files(self, submission_id: str) -> Iterator[RemoteFile]:
        """All files of a submission, in their order.

        Raises:
            ClientError: there is no such submission.
        """
        following: str | None = None
        while True:
            parameters: dict[str, str | int] = {"limit": PAGE} | ({"before": following} if following else {})
            page = _json(self._patiently("GET", f"/api/v1/submissions/{submission_id}/files", params=parameters))
            for item in page["items"]:
                yield RemoteFile(
                    id=item["id"],
                    path=item["path"],
                    state=item["state"],
                    sha256=item["sha256"],
                    error=item.get("error"),
                )
            following = page["next"]
            if following is None:
                return

    def seal(self, submission_id: str) -> None:
        """No more files will come.

        Raises:
            ClientError: there is no such submission, or it is sealed already.
        """
        self._patiently("POST", f"/api/v1/submissions/{submission_id}/seal")

    def has_arrived(self, submission_id: str) -> bool:
        """Whether any of a submission's files has been stored, asked once and not for long.

        Raises:
            ClientError: the server does not tell.
        """
        counts = _json(self._once("GET", f"/api/v1/submissions/{submission_id}", timeout=_SHORT))["counts"]
        return any(number for state, number in counts.items() if state not in ("announced", "receiving", "aborted"))

    def abandon(self, submission_id: str) -> None:
        """Seal a submission that nobody goes on with and end its uploads; tried once, and not for long.

        Raises:
            ClientError: it may still be open; the server seals it after a time of its own.
        """
        self._once("POST", f"/api/v1/submissions/{submission_id}/seal", timeout=_SHORT)
        with suppress(ClientError):  # what is left receiving ends when its time is over
            begun = {"state": "receiving", "limit": PAGE}
            answer = self._once("GET", f"/api/v1/submissions/{submission_id}/files", params=begun, timeout=_SHORT)
            for file in _json(answer)["items"]:
                self.terminate(file["id"])

    # --- bytes -------------------------------------------------------------------------------------------------------

    def send_form(self, submission_id: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Send small files together, as (path, content); each fills the announced one of its path.

        Tried once: what has arrived when it fails is for `files` to tell.

        Raises:
            ClientError: not all have been taken.
        """
        parts = [("file", (path, content, "application/octet-stream")) for path, content in files]
        self._once("POST", f"/api/v1/submissions/{submission_id}/files", files=parts)

    def terminate(self, file_id: str) -> None:
        """End the upload of an announced file that will not come, if the server can be reached at once."""
        with suppress(ClientError):
            self._once("DELETE", f"/api/v1/uploads/{file_id}", headers=_TUS, timeout=_SHORT)

    def upload(
        self,
        file_id: str,
        path: Path,
        size: int,
        on_progress: Callable[[int], None],
        on_kept: Callable[[int, datetime | None], None],
    ) -> str:
        """Send what the server lacks of a file, in chunks it verifies; returns the SHA-256 of the whole, as read here.

        Args:
            file_id: of the announced file.
            path: where its bytes are.
            size: as announced.
            on_progress: told how many bytes have gone out; it may go back when some have to go again.
            on_kept: told after each answer how many bytes the server has, and until when it keeps them if no more
                come; None if it does not tell.

        Raises:
            UploadLost: the server has no such upload any more.
            Unreachable: it was away for longer than the patience.
            SourceChanged: the file was changed meanwhile. Its last chunk was not sent.
            ClientError: the server refuses the file.
            OSError: the file cannot be read.

        Interrupting leaves what has arrived, to go on from.
        """
        with path.open("rb") as file, ThreadPoolExecutor(1, "read ahead") as reader:
            source = _Source(file, size)
            url = f"/api/v1/uploads/{file_id}"
            length, mismatches = min(CHUNK_FIRST, self._chunk_max), 0
            retry = _Retry(self)
            offset = self._offset(url, on_kept)
            ahead = reader.submit(source.read, offset, length)
            while offset < size:
                chunk = ahead.result()
                if chunk.offset != offset:  # the server stands elsewhere than expected
                    ahead = reader.submit(source.read, offset, length)
                    continue
                source.check()
                ahead = reader.submit(source.read, offset + len(chunk.data), length)
                begun = time.monotonic()
                try:
                    response = self._http.patch(
                        url,
                        content=_pieces(chunk, on_progress),
                        headers=_TUS
                        | {
                            "Content-Type": "application/offset+octet-stream",
                            "Content-Length": str(len(chunk.data)),
                            "Upload-Offset": str(offset),
                            "Upload-Checksum": f"sha256 {chunk.checksum}",
                        },
                    )
                except httpx.TransportError as error:
                    retry.wait(self._unreachable(error))
                    offset = self._offset(url, on_kept)
                    continue
                taken_s = time.monotonic() - begun
                if response.is_success:
                    offset = _kept(response, on_kept)
                    retry, mismatches = _Retry(self), 0
                    length = _next_length(length, taken_s, self._chunk_max)
                    continue
                refusal = _refusal(response)
                if response.status_code == _CHECKSUM_MISMATCH:
                    mismatches += 1
                    if mismatches == CHECKSUM_TRIES:
                        raise refusal
                elif response.status_code == _TOO_LARGE and refusal.code is None and length > CHUNK_MIN:
                    # A proxy with a limit of its own. Under it we get through, for this file and the next.
                    length = self._chunk_max = max(CHUNK_MIN, length // 2)
                elif response.status_code in TRY_AGAIN:
                    retry.wait(refusal, response)
                elif response.status_code != _OFFSET_MISMATCH:
                    raise refusal
                offset = self._offset(url, on_kept)
            on_progress(size)
            return reader.submit(source.digest).result()

    def _offset(self, url: str, on_kept: Callable[[int, datetime | None], None]) -> int:
        return _kept(self._patiently("HEAD", url, headers=_TUS), on_kept)

    # --- events ------------------------------------------------------------------------------------------------------

    def newest_cursor(self) -> int:
        """The cursor behind which only what happens from now on lies.

        Raises:
            ClientError: the server does not tell.
        """
        return self._events({"after": "newest", "limit": 1}).cursor

    def events(self, topic: str, after: int, *, wait_s: int = 0) -> EventPage:
        """Events of a topic behind a cursor.

        Args:
            topic: as in the contract, such as `all` or `submission:ID`.
            after: the cursor.
            wait_s: how long to wait for the next one when there is none yet, in seconds.

        Raises:
            ClientError: there is no such topic, or the server does not tell.
        """
        return self._events({"topic": topic, "after": after, "wait": wait_s, "limit": PAGE})

    def follow(self, topic: str, after: int, *, on_gap: Callable[[], None] = lambda: None) -> Iterator[Json]:
        """Every event of a topic behind a cursor, for ever: none missed, none twice, however often the line breaks.

        Args:
            topic: as in the contract.
            after: the cursor.
            on_gap: called when older events may have been removed by the server's `--keep-events`.

        Raises:
            ClientError: there is no such topic, or the server was away for longer than the patience.
        """
        while True:
            page = self.events(topic, after, wait_s=WAIT_S)
            if page.has_gap:
                on_gap()
            yield from page.events
            after = page.cursor

    def _events(self, parameters: Mapping[str, str | int]) -> EventPage:
        page = _json(self._patiently("GET", "/api/v1/events", params=parameters))
        return EventPage(events=page["events"], cursor=page["cursor"], has_gap=page["gap"])

    # --- requests ----------------------------------------------------------------------------------------------------

    def _once(self, method: str, path: str, **what: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **what)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        if not (self._was_reached or _is_ours(response) or response.has_redirect_location):
            raise self._stranger(response)
        if not response.is_success:
            raise _refusal(response)
        self._was_reached = True
        return response

    def _patiently(self, method: str, path: str, **what: Any) -> httpx.Response:
        """A request that may be repeated."""
        retry = _Retry(self)
        while True:
            try:
                return self._once(method, path, **what)
            except Unreachable as error:
                retry.wait(error)
            except Refused as error:
                if error.status not in TRY_AGAIN:
                    raise
                retry.wait(error)

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        reason: BaseException = error
        while reason.__cause__ is not None or reason.__context__ is not None:
            reason = reason.__cause__ or reason.__context__ or reason
        said = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        said = said or type(error).__name__
        proxy = self._proxy()
        if proxy is not None and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            return Unreachable(f"{proxy} cannot be reached ({said}); to go without it, set NO_PROXY={self._host}.")
        return Unreachable(f"{self.url} cannot be reached ({said}).")

    def _stranger(self, response: httpx.Response) -> NotDropmill:
        """What to tell of an answer that no Dropmill gives: whose it is, as far as that can be found out."""
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
            answer = httpx.get(f"{self.url}/healthz", trust_env=False, timeout=DIRECT_S)
            return bool(answer.is_success and answer.json() == {"ok": True})
        except httpx.TransportError:
            return None
        except ValueError:
            return False


class _Retry:
    """Waits between tries, longer each time, until the client's patience is over."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._since: float | None = None
        self._next_s = WAIT_FIRST_S

    def wait(self, error: ClientError, response: httpx.Response | None = None) -> None:
        """Return when it is time to try again; raise the error if it is not worth it any more."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if not self._client._was_reached or now - self._since > self._client._patience_s:
            raise error
        seconds = self._next_s
        if response is not None and is_whole_number(asked := response.headers.get("Retry-After", "")):
            seconds = max(seconds, min(float(asked), WAIT_MOST_S))
        self._next_s = min(2 * self._next_s, WAIT_MOST_S)
        self._client._on_wait(str(error), seconds)
        time.sleep(seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chunk:
    offset: int
    data: bytes
    checksum: str


class _Source:
    """A file that is read once, in order, and hashed on the way; but for `check`, used by one thread."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._changed_ns = os.fstat(file.fileno()).st_mtime_ns
        self._whole = hashlib.sha256()
        self._hashed = 0

    def check(self) -> None:
        """Return if the file is still what was announced.

        Raises:
            SourceChanged: it has another size, or was written to since it was opened.
        """
        about = os.fstat(self._file.fileno())
        if (about.st_size, about.st_mtime_ns) != (self._size, self._changed_ns):
            raise SourceChanged(f"{self._file.name} was changed while it was sent.")

    def read(self, offset: int, length: int) -> _Chunk:
        """The bytes from an offset on, fewer at the end."""
        self._hash_up_to(min(offset, self._size))
        data = self._bytes(offset, min(length, max(self._size - offset, 0)))
        self._whole.update(data[self._hashed - offset :])
        self._hashed = max(self._hashed, offset + len(data))
        digest = hashlib.sha256(data).digest()
        return _Chunk(offset=offset, data=data, checksum=base64.b64encode(digest).decode())

    def digest(self) -> str:
        """The SHA-256 of the whole file, in hexadecimal."""
        self._hash_up_to(self._size)
        return self._whole.hexdigest()

    def _hash_up_to(self, offset: int) -> None:
        while self._hashed < offset:
            data = self._bytes(self._hashed, min(CHUNK_FIRST, offset - self._hashed))
            self._whole.update(data)
            self._hashed += len(data)

    def _bytes(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(length)
        if len(data) < length:
            raise SourceChanged(f"{self._file.name} has become shorter while it was sent.")
        return data


def sha256_of(path: Path, size: int) -> str:
    """The SHA-256 of a file's first `size` bytes, in hexadecimal.

    Raises:
        SourceChanged: it has fewer.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _Source(file, size).digest()


def _announced(files: Sequence[Announcement]) -> Json:
    return {
        "files": [{"name": file.path.rpartition("/")[2], "path": file.path, "size": file.size} for file in files],
    }


def _pieces(chunk: _Chunk, on_progress: Callable[[int], None]) -> Iterator[bytes]:
    for begin in range(0, len(chunk.data), PIECE):
        on_progress(chunk.offset + begin)
        yield chunk.data[begin : begin + PIECE]


def _next_length(length: int, taken_s: float, most: int) -> int:
    if taken_s < CHUNK_S:
        length *= 2
    elif taken_s > 4 * CHUNK_S:
        length //= 2
    return min(max(length, CHUNK_MIN), most)


def _is_ours(response: httpx.Response) -> bool:
    """Whether an answer can be Dropmill's own."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    return bool(kind == ("application/json" if response.is_success else "application/problem+json"))


def _json(response: httpx.Response) -> Json:
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ClientError(f"{response.request.url} answered something that no Dropmill says.")
    return found


def _kept(response: httpx.Response, on_kept: Callable[[int, datetime | None], None]) -> int:
    """The offset that an answer about an upload tells; `on_kept` is told of it, too."""
    offset = whole_number(response.headers.get("Upload-Offset", ""))
    if offset is None:
        raise ClientError(f"{response.request.url} answered without an Upload-Offset.")
    expires_at = None
    with suppress(ValueError):
        expires_at = parsedate_to_datetime(response.headers.get("Upload-Expires", ""))
    on_kept(offset, expires_at)
    return offset


def _refusal(response: httpx.Response) -> Refused:
    is_upload = "/api/v1/uploads/" in response.request.url.path
    return (UploadLost if is_upload and response.status_code in (404, 410) else Refused)(response)
