"""Files that an attempt left for download."""

from dataclasses import dataclass

from dropmill.model.ids import Sha256

RESULTS_LISTED = 20
"""Results shown of each job in a list of jobs or files; a single job shows all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A file that an attempt left for download.

    Attributes:
        path: where it was in the results folder, parts joined by `/`; printable text, never used as a path.
        blob: key of its bytes in the blob store.
    """

    path: str
    size: int
    sha256: Sha256
    blob: str
