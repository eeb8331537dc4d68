"""What a submission says of itself: how its files are counted, and when it is settled."""

from dataclasses import fields
from datetime import UTC, datetime

import pytest

from dropmill.model.client import ClientIdentity
from dropmill.model.ids import SubmissionId
from dropmill.model.submissions import Counts, Submission


def test_a_file_is_counted_once_and_in_progress_until_its_end() -> None:
    for field in fields(Counts):
        one = Counts(**{field.name: 1})
        assert one.total == 1
        assert one.in_progress == (field.name in ("announced", "receiving", "queued", "running"))


@pytest.mark.parametrize(
    ("is_open", "counts", "is_settled"),
    [
        (True, Counts(), False),
        (True, Counts(succeeded=1), False),
        (False, Counts(), True),
        (False, Counts(succeeded=1, failed=2, cancelled=3, aborted=4), True),
        *[(False, Counts(**{state: 1}), False) for state in ("announced", "receiving", "queued", "running")],
    ],
)
def test_a_submission_is_settled_when_sealed_with_nothing_left_to_do(
    is_open: bool, counts: Counts, is_settled: bool
) -> None:
    submission = Submission(
        id=SubmissionId("s"),
        is_open=is_open,
        opened_at=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
        settled_at=None,
        times_settled=0,
        client=ClientIdentity(ip="::1"),
        account=None,
        counts=counts,
    )
    assert submission.is_settled is is_settled
