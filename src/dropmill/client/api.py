"""A client of Dropmill's HTTP API, as the command line uses it: submissions, uploads, events.

Blocking, one request at a time. It knows the public API and nothing of the server's code. Failures of the network are
waited out (`connection`), uploads are resumed (`sending`), what the server refuses is raised (`errors`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import quote

from dropmill.client.connection import PATIENCE_S, SHORT, Connection
from dropmill.client.errors import ClientError, json_of
from dropmill.client.sending import TUS, OnKept, OnProgress, Sender
from dropmill.wire.encoding import Json
from dropmill.wire.events import RemoteEvents, remote_events
from dropmill.wire.submissions import Announcement, RemoteFile, announcement_json, remote_file

WAIT_S: Final = 25  # of one long poll

_ANNOUNCED_MAX: Final = 1000  # files of one announcement
_PAGE: Final = 1000  # items of one page of a list


class ApiClient:
    """Speaks to one server. Use it as a context manager.

    Attributes:
        url: of the server, without a slash at its end.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        insecure_http: bool = False,
        patience_s: float = PATIENCE_S,
        on_wait: Callable[[str, float], None] = lambda reason, seconds: None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            server: its URL; http if it has no scheme.
            token: for `Authorization: Bearer`; None sends none.
            insecure_http: whether the token may cross a network in plain http.
            patience_s: how long a server that was reached before may be away, in seconds, without any progress.
            on_wait: called before a request is sent again, with the reason and the seconds until then.

        Raises:
            ClientError: `server` is not a URL of http or https; or the token would cross a network in plain http.
        """
        self._connection = Connection(server, token, patience_s, on_wait, insecure_http=insecure_http)
        self._sender = Sender(self._connection)
        self.url = self._connection.address.url

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    # --- submissions -------------------------------------------------------------------------------------------------

    def open_submission(self, files: Sequence[Announcement]) -> str:
        """Open a submission that more files may join; returns its id.

        Raises:
            ClientError: it cannot be opened. If the connection was lost, one may be open whose id is unknown; the
                server seals it.
        """
        first, rest = files[:_ANNOUNCED_MAX], files[_ANNOUNCED_MAX:]
        made = self._connection.once("POST", "/api/v1/submissions", json=announcement_json(first))
        submission_id = json_of(made).get("id")
        if not isinstance(submission_id, str):
            raise self._connection.address.stranger(made)
        self.announce(submission_id, rest)
        return submission_id

    def announce(self, submission_id: str, files: Sequence[Announcement]) -> None:
        """Announce further files of an open submission.

        Raises:
            ClientError: not all were announced.
        """
        for begin in range(0, len(files), _ANNOUNCED_MAX):
            announced = announcement_json(files[begin : begin + _ANNOUNCED_MAX])
            self._connection.once("POST", f"/api/v1/submissions/{submission_id}/files", json=announced)

    def submission(self, submission_id: str) -> Json:
        """A Submission of the contract, with its first files.

        Raises:
            ClientError: there is none.
        """
        return json_of(self._connection.patiently("GET", f"/api/v1/submissions/{submission_id}"))

    def post_notice(
        self, text: str, *, submission_id: str | None = None, account: str | None = None, expires_in_s: float
    ) -> Json:
        """Post a notice; the answer is the Notice of the contract.

        Raises:
            ClientError: it was refused. If the connection was lost, it may have been posted.
        """
        asked = {"text": text, "submission_id": submission_id, "account": account, "expires_in": expires_in_s}
        return json_of(self._connection.once("POST", "/api/v1/notices", json=asked))

    def notices(self) -> Sequence[Json]:
        """The notices that have neither expired nor been withdrawn, the oldest first; each the Notice of the contract.

        Raises:
            ClientError: it was refused.
        """
        found: Sequence[Json] = json_of(self._connection.patiently("GET", "/api/v1/notices"))["items"]
        return found

    def withdraw_notice(self, notice_id: str) -> None:
        """Take a notice off every page.

        Raises:
            ClientError: there is no such notice.
        """
        self._connection.patiently("DELETE", f"/api/v1/notices/{quote(notice_id, safe='')}")

    def make_link(self, wanted: Mapping[str, object]) -> Json:
        """Make a link; the answer has its address, which no other answer has.

        Args:
            wanted: as `POST /api/v1/links` takes it.

        Raises:
            ClientError: it was refused. If the connection was lost, it may have been made.
        """
        return json_of(self._connection.once("POST", "/api/v1/links", json=dict(wanted)))

    def links(self) -> Iterator[Json]:
        """The links that the caller may see, the newest first; each the Link of the API.

        Raises:
            ClientError: it was refused.
        """
        following: str | None = None
        while True:
            parameters: dict[str, str | int] = {"limit": _PAGE} | ({"before": following} if following else {})
            page = json_of(self._connection.patiently("GET", "/api/v1/links", params=parameters))
            yield from page["items"]
            following = page["next"]
            if following is None:
                return

    def revoke_link(self, link_id: str) -> None:
        """End a link.

        Raises:
            ClientError: there is no such link, or it is revoked.
        """
        self._connection.once("DELETE", f"/api/v1/links/{quote(link_id, safe='')}")

    def files(self, submission_id: str) -> Iterator[RemoteFile]:
        """All files of a submission, in their order.

        Raises:
            ClientError: there is no such submission.
        """
        following: str | None = None
        while True:
            parameters: dict[str, str | int] = {"limit": _PAGE} | ({"before": following} if following else {})
            page = json_of(
                self._connection.patiently("GET", f"/api/v1/submissions/{submission_id}/files", params=parameters)
            )
            for item in page["items"]:
                yield remote_file(item)
            following = page["next"]
            if following is None:
                return

    def seal(self, submission_id: str) -> None:
        """Seal a submission: it takes no more files.

        Raises:
            ClientError: there is no such submission, or it is already sealed.
        """
        self._connection.patiently("POST", f"/api/v1/submissions/{submission_id}/seal")

    def has_arrived(self, submission_id: str) -> bool:
        """Whether any of a submission's files has been stored. Asks once, and waits 5 seconds at most.

        Raises:
            ClientError: the server does not answer that.
        """
        counts = json_of(self._connection.once("GET", f"/api/v1/submissions/{submission_id}", timeout=SHORT))["counts"]
        return any(number for state, number in counts.items() if state not in ("announced", "receiving", "aborted"))

    def abandon(self, submission_id: str) -> None:
        """Seal a submission that nobody will continue and end its uploads. Asks once, and waits 5 seconds at most.

        Raises:
            ClientError: it may still be open; the server seals it after `--seal-after`.
        """
        self._connection.once("POST", f"/api/v1/submissions/{submission_id}/seal", timeout=SHORT)
        with suppress(ClientError):  # the server ends those that are left when they expire
            begun = {"state": "receiving", "limit": _PAGE}
            answer = self._connection.once(
                "GET", f"/api/v1/submissions/{submission_id}/files", params=begun, timeout=SHORT
            )
            for file in json_of(answer)["items"]:
                self.terminate(file["id"])

    # --- bytes -------------------------------------------------------------------------------------------------------

    def send_form(self, submission_id: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Send small files together, as (path, content); each fills the announced file with its path.

        Sent once. After an error, `files` says which have arrived.

        Raises:
            ClientError: the server has not accepted all of them.
        """
        parts = [("file", (path, content, "application/octet-stream")) for path, content in files]
        self._connection.once("POST", f"/api/v1/submissions/{submission_id}/files", files=parts)

    def terminate(self, file_id: str, cause: str = "cancelled") -> None:
        """End the upload of an announced file that will not come. Asks once; errors are ignored.

        Args:
            file_id: whose.
            cause: `cancelled` or `unreadable`.
        """
        with suppress(ClientError):
            self._connection.once("DELETE", f"/api/v1/uploads/{file_id}?cause={cause}", headers=TUS, timeout=SHORT)

    def upload(
        self,
        file_id: str,
        path: Path,
        size: int,
        on_progress: OnProgress,
        on_kept: OnKept,
    ) -> str:
        """Send what the server lacks of a file, in chunks it verifies; returns the SHA-256 of the whole file as read.

        Args:
            file_id: of the announced file.
            path: where its bytes are.
            size: as announced.
            on_progress: called with how many bytes have been sent; the number falls when some have to be sent again.
            on_kept: called after each answer with how many bytes the server has, and until when it keeps them if no
                more arrive; None if it does not say.

        Raises:
            UploadLost: the server no longer has the upload.
            Unreachable: it was away for longer than `patience_s`.
            SourceChanged: the file was changed meanwhile; its last chunk was not sent.
            ClientError: the server refuses the file.
            OSError: the file cannot be read.

        After an interruption the server keeps what has arrived; calling this again continues from there.
        """
        return self._sender.send(file_id, path, size, on_progress, on_kept)

    # --- events ------------------------------------------------------------------------------------------------------

    def newest_cursor(self) -> int:
        """The newest cursor; events after it happen from now on.

        Raises:
            ClientError: the server does not answer.
        """
        return self._events({"after": "newest", "limit": 1}).cursor

    def events(self, topic: str, after: int, *, wait_s: int = 0) -> RemoteEvents:
        """Events of a topic after a cursor.

        Args:
            topic: as in the contract, such as `all` or `submission:ID`.
            after: the cursor.
            wait_s: how long to wait for the next one when there is none yet, in seconds.

        Raises:
            ClientError: there is no such topic, or the server does not answer.
        """
        return self._events({"topic": topic, "after": after, "wait": wait_s, "limit": _PAGE})

    def follow(self, topic: str, after: int, *, on_gap: Callable[[], None] = lambda: None) -> Iterator[Json]:
        """Every event of a topic after a cursor, forever: none missed, none twice, however often the connection breaks.

        Args:
            topic: as in the contract.
            after: the cursor.
            on_gap: called when older events may have been removed by the server's `--keep-events`.

        Raises:
            ClientError: there is no such topic, or the server was away for longer than `patience_s`.
        """
        while True:
            page = self.events(topic, after, wait_s=WAIT_S)
            if page.has_gap:
                on_gap()
            yield from page.events
            after = page.cursor

    def _events(self, parameters: Mapping[str, str | int]) -> RemoteEvents:
        return remote_events(json_of(self._connection.patiently("GET", "/api/v1/events", params=parameters)))
