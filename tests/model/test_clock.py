"""Steps of the wall clock do not distort ages."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from dropmill.model.clock import STEPS_KEPT, Clock, utc_now

DAY_S = 86400.0


class Hands:
    """Both clocks of a machine, moved by the test."""

    def __init__(self) -> None:
        self.wall_s = 1_800_000_000.0
        self.monotonic_s = 1000.0
        self.clock = Clock(lambda: self.wall_s, lambda: self.monotonic_s)

    def pass_by(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds

    def step(self, seconds: float) -> None:
        self.wall_s += seconds

    def now(self) -> datetime:
        """What a record made now carries."""
        return datetime.fromtimestamp(self.wall_s, UTC)

    def is_older(self, record: datetime, age_s: float) -> bool:
        return record < self.clock.ago(age_s)


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_an_age_is_the_time_that_has_passed(hands: Hands) -> None:
    record = hands.now()
    hands.pass_by(10.0)
    assert not hands.is_older(record, 10.5)
    assert hands.is_older(record, 9.5)


def test_a_clock_that_steps_forward_ages_nothing(hands: Hands) -> None:
    hands.pass_by(100.0)
    record = hands.now()
    hands.pass_by(1.0)
    hands.step(30 * DAY_S)
    assert not hands.is_older(record, 2.0)
    later = hands.now()
    hands.pass_by(2.0)
    assert hands.is_older(record, 2.0)
    assert not hands.is_older(later, 3.0)
    hands.pass_by(2.0)
    assert hands.is_older(later, 3.0)


def test_a_clock_that_steps_back_ages_nothing_either(hands: Hands) -> None:
    hands.pass_by(100.0)
    hands.step(-30 * DAY_S)
    record = hands.now()
    hands.pass_by(1.0)
    assert not hands.is_older(record, 2.0)
    hands.pass_by(2.0)
    assert hands.is_older(record, 2.0)


def test_a_clock_that_is_slewed_makes_no_steps(hands: Hands) -> None:
    for _ in range(10_000):
        hands.pass_by(1.0)
        hands.wall_s += 0.0005
        hands.clock.ago(60.0)
    assert len(hands.clock._steps) <= 5


def test_no_record_is_ever_taken_for_older_than_it_is(hands: Hands) -> None:
    """Whatever steps come in whatever order, as long as the clocks are compared between two of them."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    records: list[tuple[datetime, float]] = []
    for _ in range(3000):
        hands.pass_by(rng.expovariate(0.1))
        if rng.random() < 0.1:
            hands.clock.ago(0.0)
            hands.step(rng.choice((-1, 1)) * 10 ** rng.uniform(0, 7))
        records.append((hands.now(), hands.monotonic_s))
        if rng.random() < 0.3:
            age_s = 10 ** rng.uniform(0, 4)
            threshold = hands.clock.ago(age_s)
            for carried, made in records:
                if carried < threshold - timedelta(milliseconds=1):
                    assert hands.monotonic_s - made >= age_s - 1e-3
    assert len(hands.clock._steps) <= STEPS_KEPT


def test_the_clock_is_utc_and_cut_to_milliseconds() -> None:
    before = datetime.now(UTC)
    now = utc_now()
    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0
    assert before - timedelta(milliseconds=1) < now <= datetime.now(UTC)
