"""What can go wrong between a client and a server.

ClientError
├── Unreachable      the server cannot be reached, or no longer
├── NotDropmill      something else answered: another server, or a proxy
├── SourceChanged    a file was changed while it was read
└── Refused          the server answered with an error
    └── UploadLost   it no longer has the upload; announce the file again
"""

from typing import Any

import httpx

from dropmill.wire.problem import MEDIA_TYPE as PROBLEM
from dropmill.wire.problem import remote_problem


class ClientError(Exception):
    """Something that a person should read: the exception's text is one sentence."""


class Unreachable(ClientError):
    """The server does not answer."""


class NotDropmill(ClientError):
    """What answers is not Dropmill."""


class SourceChanged(ClientError):
    """A file is no longer what was announced; the bytes read so far are of no use."""


class Refused(ClientError):
    """The server, or a proxy in between, answered with an error.

    Attributes:
        status: of the answer.
        code: the server's own stable word for the error; None if the answer is no problem document of Dropmill's.
    """

    def __init__(self, response: httpx.Response) -> None:
        """Read the answer's problem document, if it is one."""
        self.status = response.status_code
        self.code: str | None = None
        sentence = f"{response.request.url} answered {self.status} {response.reason_phrase}".rstrip() + "."
        if response.has_redirect_location:
            sentence = f"{response.request.url} has moved to {response.headers['Location']}; use that address."
        elif response.headers.get("Content-Type", "").startswith(PROBLEM) and response.content:
            problem = remote_problem(json_of(response))
            self.code = problem.code
            sentence = f"{problem.sentence} ({self.status})"
        super().__init__(sentence)


class UploadLost(Refused):
    """The upload was terminated or has expired; announce the file again."""


def refusal(response: httpx.Response) -> Refused:
    """The error that an answer stands for."""
    is_upload = "/api/v1/uploads/" in response.request.url.path
    return (UploadLost if is_upload and response.status_code in (404, 410) else Refused)(response)


def json_of(response: httpx.Response) -> dict[str, Any]:
    """An answer's JSON object.

    Raises:
        ClientError: its body is anything else.
    """
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ClientError(f"{response.request.url} answered something that is not from Dropmill.")
    return found
