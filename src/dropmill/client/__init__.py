"""The clients of the API, for programs: `ApiClient`, `AsyncClient`, what they take and return, what they raise."""

from dropmill.client.api import WAIT_S, ApiClient
from dropmill.client.connection import PATIENCE_S, TRY_AGAIN
from dropmill.client.errors import ClientError, NotDropmill, Refused, SourceChanged, Unreachable, UploadLost
from dropmill.client.following import AsyncClient, Gap
from dropmill.client.sending import sha256_of

__all__ = [
    "PATIENCE_S",
    "TRY_AGAIN",
    "WAIT_S",
    "ApiClient",
    "AsyncClient",
    "ClientError",
    "Gap",
    "NotDropmill",
    "Refused",
    "SourceChanged",
    "Unreachable",
    "UploadLost",
    "sha256_of",
]
