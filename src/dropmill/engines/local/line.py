"""The line of waiting jobs, in which submissions take turns: ten thousand files of one do not starve one of another.

Each submission has its own line, first come first served, and is given one pick in turn. Adding, taking and
withdrawing cost the same however many wait; telling a place costs the logarithm of it. Knows ids and nothing else;
used on one thread.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from dropmill.model.ids import JobId, SubmissionId


@dataclass(slots=True)
class _Own:
    """The line of one submission.

    Attributes:
        turn: rises from one submission to the next in the order in which they are picked from.
        jobs: to the number each was given here.
        taken: the number of the last one that left at the front.
        given: the last number given.
    """

    turn: int
    jobs: dict[JobId, int] = field(default_factory=dict)
    taken: int = 0
    given: int = 0


class Line:
    """Who is next. A job stands in it once."""

    def __init__(self) -> None:
        self._owners: dict[JobId, SubmissionId] = {}
        self._turns: OrderedDict[SubmissionId, _Own] = OrderedDict()
        self._last_turn = 0
        # How many submissions have at least 1, 2, 3, ... jobs here: so many are picked in the first, second, third
        # round. Places are sums over it.
        self._rounds = _Sums()

    def __len__(self) -> int:
        return len(self._owners)

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._owners

    def add(self, job_id: JobId, submission_id: SubmissionId) -> None:
        """Put a job at the end of its submission's line; one that stands there keeps its place."""
        if job_id in self._owners:
            return
        own = self._turns.get(submission_id)
        if own is None:
            own = self._turns[submission_id] = _Own(turn=self._next_turn())
        own.given += 1
        own.jobs[job_id] = own.given
        self._owners[job_id] = submission_id
        self._rounds.add(len(own.jobs), 1)

    def take(self) -> JobId:
        """The next job, which leaves the line; its submission goes behind the others.

        Raises:
            KeyError: nobody waits.
        """
        submission_id, own = next(iter(self._turns.items()), (None, None))
        if submission_id is None or own is None:
            raise KeyError("the line is empty")
        job_id = next(iter(own.jobs))
        own.taken = own.jobs[job_id]
        self._remove(job_id, submission_id, own)
        if own.jobs:
            own.turn = self._next_turn()
            self._turns.move_to_end(submission_id)
        return job_id

    def withdraw(self, job_id: JobId) -> None:
        """Take a job out, wherever it stands; none is no error."""
        submission_id = self._owners.get(job_id)
        if submission_id is not None:
            self._remove(job_id, submission_id, self._turns[submission_id])

    def place(self, job_id: JobId) -> int | None:
        """Which pick will take a job, 1 being next; None if it is not here.

        Right as long as nobody comes, and nobody but the first has left; else an estimate.
        """
        submission_id = self._owners.get(job_id)
        if submission_id is None:
            return None
        own = self._turns[submission_id]
        before = min(own.jobs[job_id] - own.taken, len(own.jobs)) - 1  # of its own submission
        first = next(iter(self._turns.values()))
        others = min(own.turn - first.turn, self._rounds.at(before + 1) - 1)  # in the same round
        return self._rounds.up_to(before) + others + 1

    def _remove(self, job_id: JobId, submission_id: SubmissionId, own: _Own) -> None:
        self._rounds.add(len(own.jobs), -1)
        del own.jobs[job_id]
        del self._owners[job_id]
        if not own.jobs:
            del self._turns[submission_id]

    def _next_turn(self) -> int:
        self._last_turn += 1
        return self._last_turn


class _Sums:
    """Counters 1, 2, 3, ... and the sums of the first of them (a Fenwick tree); grows as it is used."""

    def __init__(self) -> None:
        self._counts = [0] * 65
        self._tree = [0] * 65

    def add(self, index: int, by: int) -> None:
        """Add to a counter."""
        if index >= len(self._counts):
            self._counts += [0] * len(self._counts)
            self._tree = [0] * len(self._counts)
            for at, count in enumerate(self._counts):
                self._grow(at, count)
        self._counts[index] += by
        self._grow(index, by)

    def _grow(self, index: int, by: int) -> None:
        while by and 0 < index < len(self._tree):
            self._tree[index] += by
            index += index & -index

    def at(self, index: int) -> int:
        """One counter."""
        return self._counts[index] if index < len(self._counts) else 0

    def up_to(self, index: int) -> int:
        """The sum of the first `index` counters."""
        total = 0
        while index > 0:
            total += self._tree[index]
            index &= index - 1
        return total
