"""The line: submissions take turns, and everyone knows a place."""

import random
from collections import Counter

import pytest

from dropmill.engines.local.line import Line
from dropmill.model.ids import JobId, SubmissionId


def fill(line: Line, **counts: int) -> None:
    for owner, count in counts.items():
        for number in range(count):
            line.add(JobId(f"{owner}{number}"), SubmissionId(owner))


def drain(line: Line) -> list[JobId]:
    return [line.take() for _ in range(len(line))]


def test_submissions_take_turns() -> None:
    line = Line()
    fill(line, a=3, b=1, c=2)
    assert drain(line) == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_ten_thousand_files_do_not_starve_one_of_another() -> None:
    line = Line()
    fill(line, a=10_000)
    line.take()
    fill(line, b=1)
    assert JobId("b0") in drain(line)[:2]


def test_one_that_waits_keeps_its_place_when_it_is_added_again() -> None:
    line = Line()
    fill(line, a=2)
    line.add(JobId("a0"), SubmissionId("a"))
    assert len(line) == 2
    assert drain(line) == ["a0", "a1"]


def test_who_withdraws_is_not_taken() -> None:
    line = Line()
    fill(line, a=3, b=1)
    for name in ("a1", "b0", "nobody"):
        line.withdraw(JobId(name))
    assert JobId("a1") not in line
    assert line.place(JobId("a1")) is None
    assert drain(line) == ["a0", "a2"]
    fill(line, b=1)
    assert drain(line) == ["b0"]


def test_from_an_empty_line_nobody_is_taken() -> None:
    with pytest.raises(KeyError):
        Line().take()


def test_places_tell_which_pick_takes_a_job() -> None:
    """Exact for the submissions' shortest lines, and never off by more than the number of submissions."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(30):
        line = Line()
        owners = {f"s{n}-": chance.choice([1, 2, 70, 200]) for n in range(chance.randrange(1, 8))}
        for owner, count in owners.items():
            fill(line, **{owner: count})
        for _ in range(chance.randrange(len(line))):
            line.take()
        jobs = [JobId(f"{owner}{n}") for owner, count in owners.items() for n in range(count)]
        places = {job_id: place for job_id in jobs if (place := line.place(job_id)) is not None}
        picks = {job_id: number for number, job_id in enumerate(drain(line), 1)}
        assert places.keys() == picks.keys()
        assert all(abs(places[job_id] - picks[job_id]) < len(owners) for job_id in picks), (places, picks)
        if picks:
            assert places[next(iter(picks))] == 1


def test_a_submission_alone_has_exact_places() -> None:
    line = Line()
    fill(line, a=500)
    for _ in range(100):
        line.take()
    assert [line.place(JobId(f"a{n}")) for n in (99, 100, 101, 499)] == [None, 1, 2, 400]


def test_whatever_comes_and_goes_each_is_taken_once_and_turns_are_fair() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    line, added, gone = Line(), set(), Counter[str]()
    for step in range(3000):
        match chance.randrange(5):
            case 0 | 1:
                job_id = JobId(f"{step}")
                added.add(job_id)
                line.add(job_id, SubmissionId(str(chance.randrange(6))))
            case 2 | 3 if len(line):
                gone[line.take()] += 1
            case 4 if added:
                job_id = chance.choice(sorted(added))
                if job_id in line:
                    line.withdraw(job_id)
                    gone[job_id] += 1
        waiting = [job_id for job_id in added if job_id not in gone]
        assert len(line) == len(waiting)
        if step % 100 == 0:
            assert all(1 <= (line.place(job_id) or 0) <= len(line) for job_id in waiting)
    gone.update(drain(line))
    assert set(gone) == added
    assert set(gone.values()) <= {1}
