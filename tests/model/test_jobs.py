"""What a job says of itself, and the file that a callable gets."""

from datetime import UTC, datetime, timedelta

import pytest

from dropmill.model.ids import FileId, JobId, SubmissionId
from dropmill.model.jobs import Job, JobState

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("started_at", "settled_at", "duration"),
    [
        (None, None, None),
        (AT, None, None),
        (None, AT, None),
        (AT, AT + timedelta(seconds=1.5), 1.5),
        (AT, AT, 0.0),
        (AT, AT - timedelta(seconds=1), None),
    ],
    ids=["new", "running", "cancelled in the queue", "settled", "at once", "the clock was set back"],
)
def test_a_job_took_as_long_as_its_newest_attempt(
    started_at: datetime | None, settled_at: datetime | None, duration: float | None
) -> None:
    job = Job(
        id=JobId("j"),
        file_id=FileId("f"),
        submission_id=SubmissionId("s"),
        state=JobState.QUEUED,
        queued_at=AT,
        started_at=started_at,
        settled_at=settled_at,
        exit_code=None,
        error=None,
        value=None,
        output_size=0,
    )
    assert job.duration == duration
