"""The announced files that one form brings by their ids, read from the ledger ahead of their parts.

A read costs little more for a hundred files than for one, and a read for each part took as much CPU as storing the
file. Forms mostly bring their files in the order in which they were announced. For one that does not, little is read
ahead: each read looks twice as far as the one before proved useful.
"""

import asyncio
from dataclasses import dataclass, field

from dropmill.model.ids import FileId, SubmissionId
from dropmill.ports.ledger.uploads import AwaitedFile, UploadLedger

AHEAD_MAX = 255  # files; a form of the page brings up to 500

VALID_S = 1.0
"""Seconds until what was read is read again. On a slow line a person may cancel a file that its form has not reached;
its bytes would be received in vain."""


@dataclass(kw_only=True, slots=True)
class AwaitedFiles:
    """What was read ahead for one form.

    Attributes:
        known: files that were read and have not come.
        used: how many files of the newest read have come.
        read_at: when that was, by the event loop's clock.
    """

    known: dict[FileId, AwaitedFile] = field(default_factory=dict)
    used: int = 0
    read_at: float = 0.0

    async def find(self, ledger: UploadLedger, submission_id: SubmissionId, file_id: FileId) -> AwaitedFile | None:
        """A file whose part begins; None if the submission does not wait for it any more.

        What was read ahead may be out of date: only the change that begins or stores the file decides.

        Raises:
            NotFound: the submission has no such file.
        """
        now = asyncio.get_running_loop().time()
        if file_id not in self.known or now - self.read_at > VALID_S:
            ahead = min(2 * self.used, AHEAD_MAX)
            found = await ledger.awaited_files(submission_id, file_id, ahead=ahead)
            self.known = {file.file_id: file for file in found}
            self.used, self.read_at = 0, now
        self.used += 1
        return self.known.pop(file_id, None)
