"""A file of a submission and the transfer of its bytes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from dropmill.model.ids import FileId, Fingerprint, Sha256, SubmissionId
from dropmill.model.jobs import Job


class UploadState(StrEnum):
    """The transfer of one file's bytes."""

    ANNOUNCED = "announced"
    RECEIVING = "receiving"
    STORED = "stored"
    ABORTED = "aborted"


class AbortCause(StrEnum):
    """Why an upload was aborted, for programs; `File.error` has it for people.

    Only `CANCELLED` is somebody's wish. After `UNREADABLE` its client has no more of it, and after `REFUSED` the same
    file would be refused again; after any other cause it can be sent again while its submission is open. Until then its
    client may still give it up, and if it is stored, the cause becomes `REPLACED`.
    """

    CANCELLED = "cancelled"
    """Its client gave it up: it terminated the upload, or sealed the submission before the file came."""
    UNREADABLE = "unreadable"
    """Its client gave it up because it could not read it any more, or because it had changed."""
    CUT_OFF = "cut_off"
    """The connection broke, was too slow, or brought something that is no form."""
    EXPIRED = "expired"
    """No byte came for too long."""
    REFUSED = "refused"
    """The server does not take such a file: its size, its type, its name."""
    DAMAGED = "damaged"
    """The bytes that came do not have the SHA-256 that the client announced."""
    SERVER_FAILED = "server_failed"
    """The server stopped, could not store it, or lost its bytes."""
    REPLACED = "replaced"
    """The same file was sent again, as a further one of its submission, and is stored."""

    @property
    def is_broken_off(self) -> bool:
        """Whether the file can be sent again while its submission is open."""
        return self in (AbortCause.CUT_OFF, AbortCause.EXPIRED, AbortCause.DAMAGED, AbortCause.SERVER_FAILED)


UPLOAD_TRANSITIONS: Mapping[UploadState, frozenset[UploadState]] = {
    UploadState.ANNOUNCED: frozenset({UploadState.RECEIVING, UploadState.ABORTED}),
    UploadState.RECEIVING: frozenset({UploadState.STORED, UploadState.ABORTED}),
    UploadState.STORED: frozenset(),
    UploadState.ABORTED: frozenset(),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredBlob:
    """A blob that a commit made durable."""

    key: str
    size: int
    sha256: Sha256


class FileIdentity(NamedTuple):
    """Shows whether a file was touched since it was last examined: an equal identity means that it was not.

    Anybody can set a modification time, but not the change time: the kernel sets it whenever bytes, size, links or
    rights of a file change. An unequal identity proves nothing; only a hash shows whether the bytes differ.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "FileIdentity":
        """The identity in the answer of a `stat` call."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file of a submission, from its announcement on.

    Attributes:
        name: what the client calls it, last part only. Text, never a path.
        path: what the client calls it with its folders, as given. Text, never a path.
        size: announced or stored size; None while unknown.
        received: bytes known to be on disk.
        sha256: of the stored bytes; None until stored.
        blob: key of the bytes in the blob store; None until stored.
        error: why the upload was aborted, for people; None otherwise.
        cause: why the upload was aborted; None otherwise.
        removed_at: when its bytes, output and results were removed to keep the disk free; None while they are kept.
        job: None until stored.
        is_resumable: whether its bytes may still come in requests of their own.
        fingerprint: by which its client knows it again; None if the client gave none.
    """

    id: FileId
    submission_id: SubmissionId
    name: str
    path: str
    size: int | None
    received: int
    sha256: Sha256 | None
    state: UploadState
    blob: str | None
    error: str | None
    cause: AbortCause | None
    job: Job | None
    removed_at: datetime | None = None
    is_resumable: bool = False
    fingerprint: Fingerprint | None = None
