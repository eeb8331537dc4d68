"""The client of the HTTP API, for programs: `ApiClient`, what it takes and returns, and what it raises."""

from dropmill.client.api import WAIT_S, ApiClient
from dropmill.client.connection import PATIENCE_S, TRY_AGAIN
from dropmill.client.errors import ClientError, NotDropmill, Refused, SourceChanged, Unreachable, UploadLost
from dropmill.client.sending import sha256_of

__all__ = [
    "PATIENCE_S",
    "TRY_AGAIN",
    "WAIT_S",
    "ApiClient",
    "ClientError",
    "NotDropmill",
    "Refused",
    "SourceChanged",
    "Unreachable",
    "UploadLost",
    "sha256_of",
]
