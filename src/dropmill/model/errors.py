"""Every error that a caller may see, as one tree.

    DropmillError
    ├── SettingsError              start-up stops with its sentence
    │   ├── ProcessorError         the processor cannot be used
    │   └── DataFolderInUse        another process owns the data folder
    ├── NotFound                   404
    │   └── LinkEnded              404
    ├── Removed                    410
    ├── BadRequest                 400
    │   ├── MalformedUpload        400, says what was kept
    │   ├── NothingSent            400
    │   ├── BadFileName            400
    │   ├── BadParameter           400
    │   └── BadPassword            400, with the reason
    ├── UnsupportedMediaType       415
    │   └── FileTypeNotAccepted    415
    ├── RequestTooSlow             408
    ├── TooLarge                   413
    │   ├── FileTooLarge           413
    │   ├── TooManyFiles           413
    │   └── QuotaExceeded          413
    │       └── LinkUsedUp         413
    ├── RangeNotSatisfiable        416
    ├── TooManyUploads             429
    ├── TooManyConnections         429
    ├── TooManySubmissions         429
    ├── TooManyRequests            429
    ├── OffsetMismatch             409
    ├── ChecksumMismatch           460, of a chunk (tus checksum extension)
    ├── DigestMismatch             400, of a whole file
    ├── UploadGone                 410, terminated, expired or lost
    ├── TusVersionMismatch         412
    ├── SignInRequired             401
    │   ├── WrongCredentials       401
    │   └── SignInFailed           401, with the reason
    ├── TooManyAttempts            429
    ├── Forbidden                  403
    │   └── InsecureSignIn         403
    ├── LinkAsks                   403
    │   └── WrongPassphrase        403
    ├── MisdirectedRequest         421
    ├── IllegalTransition          409
    │   ├── SubmissionSealed       409
    │   ├── NameTaken              409
    │   ├── LastAdmin              409
    │   └── RevisionInUse          409
    ├── ConfigConflict             412
    ├── PreconditionRequired       428
    ├── ConfigInvalid              422
    ├── IdempotencyMismatch        422
    ├── ConfigEditRefused          409, with the reason
    ├── OutOfSpace                 507
    └── Unavailable                503
        ├── ProviderUnavailable    503, of sign-in
        ├── UploadTaken            503
        ├── NodeGone               503, this process was declared gone
        ├── StorageUnavailable     503, an error of disk or database
        └── BytesLost              503

A class carries what is the same for all its instances: the stable `code`, the HTTP `status`, the `title`.
The instance carries the `detail`: what is wrong here and what to do next. `docs/errors.md` lists every code.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class DropmillError(Exception):
    """Something that Dropmill refuses or cannot do, with a sentence that says why."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The request cannot be served"

    def __init__(self, detail: str, **extra: Any) -> None:
        """Keep the sentence.

        Args:
            detail: what is wrong and what to do next, for a person.
            extra: further JSON-able members of the problem document, such as `kept=[...]`.
        """
        super().__init__(detail)
        self.detail = detail
        self.extra: Mapping[str, Any] = extra


class SettingsError(DropmillError):
    """A setting is unknown or unusable; start-up stops."""

    code = "bad_setting"
    status = 500
    title = "A setting cannot be used"


class ProcessorError(SettingsError):
    """The processor cannot be imported, is not callable, is async, or is missing."""

    code = "bad_processor"
    title = "The processor cannot be used"


class DataFolderInUse(SettingsError):
    """Another process already works on this data folder."""

    code = "data_folder_in_use"
    title = "The data folder is in use"


class NotFound(DropmillError):
    """No such thing, or none that the caller may see."""

    code = "not_found"
    status = 404
    title = "Not found"


class LinkEnded(NotFound):
    """The link by which something is sent has expired or was revoked."""

    code = "link_ended"
    title = "The link has ended"


class Removed(DropmillError):
    """The bytes were removed, as `--keep`, `--keep-size` or `--keep-revisions` say, or purged; their record stays."""

    code = "removed"
    status = 410
    title = "No longer kept"


class BadRequest(DropmillError):
    """The request lacks something, or has it in the wrong form."""

    code = "bad_request"
    status = 400
    title = "The request is malformed"


class BadParameter(BadRequest):
    """A query parameter has an unusable value.

    Where a page may show it, the member `reason` says why: `too_short`, `too_long` (`limit` is the number of
    characters), `repeated`, `not_a_choice`, `not_a_time`, `not_a_page`, or `two_pages`.
    """

    code = "bad_parameter"
    title = "A parameter cannot be used"


class BadPassword(BadRequest):
    """A new password cannot be one.

    The member `reason` says why: `too_short`, `too_long` (`limit` is the number of characters or bytes), `well_known`
    or `like_name`.
    """

    code = "bad_password"
    title = "The password cannot be used"


class BadFileName(BadRequest):
    """A client's file name is not text, holds NUL, or is too long."""

    code = "bad_file_name"
    title = "A file name cannot be used"


class MalformedUpload(BadRequest):
    """The multipart body breaks off or is not multipart. `kept` names the files that ended before."""

    code = "malformed_upload"
    title = "The upload is malformed"


class NothingSent(BadRequest):
    """The form came without a file."""

    code = "no_file"
    title = "No file was chosen"


class UnsupportedMediaType(DropmillError):
    """The call does not accept a body of this type."""

    code = "unsupported_media_type"
    status = 415
    title = "The body's type is not supported"


class FileTypeNotAccepted(UnsupportedMediaType):
    """A file is of none of the types that the server accepts. `file` is its path, `accept` lists the types."""

    code = "file_type_not_accepted"
    title = "Files of this type are not accepted"


class RequestTooSlow(DropmillError):
    """No byte of the body came for the idle timeout, or they came slower than the minimum rate."""

    code = "body_idle"
    status = 408
    title = "The body came too slowly"


class TooLarge(DropmillError):
    """The body or a part of it is over a limit."""

    code = "too_large"
    status = 413
    title = "Too large"


class FileTooLarge(TooLarge):
    """A file is over the limit for one file. `file` is its path."""

    code = "file_too_large"
    title = "The file is too large"


class TooManyFiles(TooLarge):
    """A submission is over the limit of files."""

    code = "too_many_files"
    title = "Too many files"


class QuotaExceeded(TooLarge):
    """The owner would have more than its quota. Nothing that it has is removed.

    Members: `reason`, one of `storage`, `total_size`, `files` and `submissions`; `limit`; `used`, what it has now.
    """

    code = "quota_exceeded"
    title = "The quota is used up"


class LinkUsedUp(QuotaExceeded):
    """As much was sent by the link as its maker allows."""

    code = "link_used_up"
    title = "The link is used up"


class TooManyUploads(DropmillError):
    """One address has as many uploads under way as the limit allows."""

    code = "too_many_uploads"
    status = 429
    title = "Too many uploads at once"


class TooManyConnections(DropmillError):
    """One address has as many connections or sockets open as the limit allows."""

    code = "too_many_connections"
    status = 429
    title = "Too many connections at once"


class TooManySubmissions(DropmillError):
    """The owner has opened as many submissions as it may now. `retry_after` is in how many seconds to try again.

    Members besides: `reason`, `submissions_a_day` or `open_submissions`, and `limit`.
    """

    code = "too_many_submissions"
    status = 429
    title = "Too many submissions"


class TooManyRequests(DropmillError):
    """An account or an address sent more requests than it may. `retry_after` is in how many seconds to try again."""

    code = "too_many_requests"
    status = 429
    title = "Too many requests"


class OffsetMismatch(DropmillError):
    """Upload-Offset is not the upload's offset; ask for it with HEAD. No byte was taken."""

    code = "offset_mismatch"
    status = 409
    title = "Upload-Offset does not match"


class ChecksumMismatch(DropmillError):
    """A chunk does not match its checksum; none of it was kept, send it again."""

    code = "checksum_mismatch"
    status = 460
    title = "The chunk's checksum does not match"


class DigestMismatch(DropmillError):
    """A whole file has another SHA-256 than the client gave; none of it was kept."""

    code = "digest_mismatch"
    status = 400
    title = "The file's digest does not match"


class UploadGone(DropmillError):
    """The upload was terminated, has expired, or its bytes are lost; start a new one."""

    code = "upload_gone"
    status = 410
    title = "The upload is gone"


class TusVersionMismatch(DropmillError):
    """The request is not of tus 1.0.0."""

    code = "tus_version_mismatch"
    status = 412
    title = "This version of tus is not supported"


class RangeNotSatisfiable(DropmillError):
    """The requested range begins after the end. `size` is the number of bytes."""

    code = "range_not_satisfiable"
    status = 416
    title = "The range cannot be sent"


class SignInRequired(DropmillError):
    """Nobody signed in, and this is not open to everybody. Nothing was looked up."""

    code = "sign_in_required"
    status = 401
    title = "Sign in first"


class WrongCredentials(SignInRequired):
    """The name or the password is wrong, or the account is disabled; or the one-time link is spent or expired."""

    code = "wrong_credentials"
    title = "Not signed in"


class SignInFailed(SignInRequired):
    """A sign-in with an identity provider failed.

    `reason` is `state`, `denied`, `answer`, `name`, `name_taken` or `disabled`; docs/errors.md says what each means.
    """

    code = "sign_in_failed"
    title = "Not signed in"


class TooManyAttempts(DropmillError):
    """Too many attempts failed lately for this name, link or address. `retry_after`: try again in so many seconds."""

    code = "too_many_attempts"
    status = 429
    title = "Too many attempts"


class Forbidden(DropmillError):
    """The caller may not do this."""

    code = "forbidden"
    status = 403
    title = "Not allowed"


class InsecureSignIn(Forbidden):
    """Others on the network could read the password: the request came over plain http from another machine."""

    code = "insecure_http"
    title = "Not over plain http"


class LinkAsks(DropmillError):
    """The link needs something besides its secret: a passphrase, a name."""

    code = "link_asks"
    status = 403
    title = "The link asks for more"


class WrongPassphrase(LinkAsks):
    """The passphrase is not the link's."""

    code = "wrong_passphrase"
    title = "Wrong passphrase"


class MisdirectedRequest(DropmillError):
    """The `Host` header names a host this server does not answer for (stops DNS rebinding)."""

    code = "unknown_host"
    status = 421
    title = "This server does not answer for that host"


class IllegalTransition(DropmillError):
    """The state of the thing does not allow this; nothing was changed."""

    code = "illegal_transition"
    status = 409
    title = "Not possible in this state"


class IdempotencyMismatch(DropmillError):
    """The `Idempotency-Key` was used for another request. Nothing of this request was stored."""

    code = "idempotency_mismatch"
    status = 422
    title = "The key belongs to another request"


class SubmissionSealed(IllegalTransition):
    """The submission takes no more files; open another one."""

    code = "submission_sealed"
    title = "The submission is sealed"


class NameTaken(IllegalTransition):
    """Another account has the name; case does not distinguish names."""

    code = "name_taken"
    title = "The name is taken"


class LastAdmin(IllegalTransition):
    """No other account could administer the server; nothing was changed."""

    code = "last_admin"
    title = "This is the last admin"


class ConfigConflict(DropmillError):
    """Somebody else saved the config first; nothing was changed."""

    code = "config_conflict"
    status = 412
    title = "The config was changed by someone else"


class PreconditionRequired(DropmillError):
    """The call must say which revision it replaces (`If-Match`)."""

    code = "if_match_required"
    status = 428
    title = "If-Match is required"


class ConfigInvalid(DropmillError):
    """The text is no valid config. `errors` lists line, column, path and message of each problem."""

    code = "config_invalid"
    status = 422
    title = "The config is not valid"


class ConfigEditRefused(DropmillError):
    """A value cannot be edited exactly; nothing was changed. Members: `reason` and `path`, of the refused operation.

    For `aliased`, `tagged`, `complex_key`, `only_child`, `flow`, `block_indicator` and `ambiguous_key`, edit the text
    instead. `not_found` and `test_failed`: the document is not what the edit expects.
    `not_a_value` and `not_exact`: no exact edit of this place is known. `too_costly`: the edit takes too long.
    """

    code = "config_edit_refused"
    status = 409
    title = "This edit cannot be made exactly"


class RevisionInUse(IllegalTransition):
    """The revision cannot be purged: it is the newest, or queued or running jobs use it."""

    code = "revision_in_use"
    title = "The revision is in use"


class OutOfSpace(DropmillError):
    """The disk is full; what was stored before is safe."""

    code = "out_of_space"
    status = 507
    title = "The disk is full"


class Unavailable(DropmillError):
    """Not now: the server is stopping, or something that it needs does not work."""

    code = "unavailable"
    status = 503
    title = "Not available now"


class ProviderUnavailable(Unavailable):
    """The identity provider does not answer as it should. Accounts with a password are not concerned."""

    code = "provider_unavailable"
    title = "The identity provider does not answer"


class UploadTaken(Unavailable):
    """Another process of the server continues the upload; bytes that this one was still writing do not count."""

    code = "upload_taken"
    title = "Another process continues the upload"


class NodeGone(Unavailable):
    """This process was declared gone, and its work was settled; it must begin anew under another node."""

    code = "node_gone"
    title = "This process was declared gone"


class StorageUnavailable(Unavailable):
    """The disk or the database does not work now. The server retries; `/readyz` and the pages list what is affected."""

    code = "storage_unavailable"
    title = "The storage is not available now"


class BytesLost(Unavailable):
    """The bytes on disk are not those that were received: a file vanished, or was changed."""

    code = "bytes_lost"
    title = "The bytes were lost"
