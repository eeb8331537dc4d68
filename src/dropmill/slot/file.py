"""What a callable gets as its `file` parameter. Imported only for callables that have one."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessorClient:
    """Who sent the file as far as the network tells; the fields of `dropmill.model.client.ClientIdentity`.

    Attributes:
        ip: the address in its shortest form.
        host: name from reverse DNS; None if there is none.
        verified: whether `host` resolves back to `ip`.
        domain: registered domain of `host`, or everything after its first label; None for a bare name.
        user_agent: the header, cut to 400 characters; None if absent.
    """

    ip: str
    host: str | None = None
    verified: bool = False
    domain: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessorFile:
    """The file of a job; also `os.PathLike`.

    Attributes:
        name: what the client called it. Data only, never a path.
        path: where its bytes are.
        size: in bytes.
        attempt: number of this attempt, from 1.
        client: who sent it; left out of `repr`, so that printing the file names nobody.
    """

    name: str
    path: Path
    size: int
    sha256: str
    job_id: str
    submission_id: str
    attempt: int
    client: ProcessorClient = field(repr=False)

    def __fspath__(self) -> str:
        return str(self.path)
