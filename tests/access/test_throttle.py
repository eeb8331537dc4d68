"""Who guesses waits longer and longer; nobody is locked out."""

import pytest

from dropmill.access.throttle import (
    FORGOTTEN_S,
    KNOWN_MAX,
    OF_ADDRESS,
    OF_BROWSER,
    OF_NAME,
    OF_NAME_AND_ADDRESS,
    Throttle,
)
from dropmill.model.errors import TooManyAttempts

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def failed(throttle: Throttle, clock: Hands, name: str, ip: str) -> float:
    """How long one has to wait for the next attempt; it is made, and fails."""
    began = clock.now
    while True:
        try:
            throttle.begin(name, ip)
            return clock.now - began
        except TooManyAttempts as error:
            clock.now += error.extra["retry_after"]


def test_some_attempts_are_free_and_then_each_waits_twice_as_long_up_to_a_minute() -> None:
    clock = Hands()
    throttle = Throttle(clock)
    waits = [failed(throttle, clock, "ada", HERE) for _ in range(14)]
    assert waits == [0] * OF_NAME_AND_ADDRESS.free + [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_failures_at_one_address_do_not_keep_the_owner_of_the_name_out_elsewhere() -> None:
    clock = Hands()
    throttle = Throttle(clock)
    for _ in range(30):
        failed(throttle, clock, "ada", HERE)
    assert failed(throttle, clock, "ada", THERE) == 0


def test_one_address_does_not_try_many_names() -> None:
    clock = Hands()
    throttle = Throttle(clock)
    for number in range(OF_ADDRESS.free):
        assert failed(throttle, clock, f"name {number}", HERE) == 0
    assert failed(throttle, clock, "another", HERE) > 0
    assert failed(throttle, clock, "another", THERE) == 0


def test_many_addresses_do_not_guess_one_name_fast() -> None:
    clock = Hands()
    throttle = Throttle(clock)
    for number in range(OF_NAME.free):
        failed(throttle, clock, "ada", f"192.0.{number // 200}.{number % 200}")
    waits = [failed(throttle, clock, "ada", f"198.51.100.{number}") for number in range(5)]
    assert waits == [1, 2, 2, 2, 2]


def test_all_addresses_of_one_ipv6_network_are_one() -> None:
    clock = Hands()
    throttle = Throttle(clock)
    for number in range(OF_NAME_AND_ADDRESS.free):
        failed(throttle, clock, "ada", f"2001:db8::{number + 1}")
    assert failed(throttle, clock, "ada", "2001:db8::ffff") == 1
    assert failed(throttle, clock, "ada", "2001:db8:0:1::1") == 0


def test_a_success_does_not_count_and_forgets_the_failures_of_its_name_at_its_address() -> None:
    clock = Hands()
    throttle = Throttle(clock)
    for _ in range(1000):
        throttle.begin("ada", HERE)
        throttle.succeeded("ada", HERE)
    for _ in range(OF_NAME_AND_ADDRESS.free - 1):
        throttle.begin("ada", HERE)
    throttle.begin("ada", HERE)
    throttle.succeeded("ada", HERE)
    assert failed(throttle, clock, "ada", HERE) == 0


def test_many_attempts_at_once_count_before_the_first_has_failed() -> None:
    throttle = Throttle(Hands())
    for _ in range(OF_NAME_AND_ADDRESS.free):
        throttle.begin("ada", HERE)
    with pytest.raises(TooManyAttempts):
        throttle.begin("ada", HERE)


def test_failures_are_forgotten_after_a_while() -> None:
    clock = Hands()
    throttle = Throttle(clock)
    for _ in range(12):
        failed(throttle, clock, "ada", HERE)
    clock.now += FORGOTTEN_S + 1
    assert failed(throttle, clock, "ada", HERE) == 0


def test_a_browser_that_is_known_waits_for_nobody_and_keeps_nobody_waiting() -> None:
    """However many others fail with the name, and at the address; and it does not guess fast either."""
    clock = Hands()
    throttle = Throttle(clock)
    for number in range(2 * OF_NAME.free):
        failed(throttle, clock, "ada", f"198.51.{number // 200}.{number % 200}")
    for number in range(2 * OF_ADDRESS.free):
        failed(throttle, clock, f"name {number}", HERE)
    waits = [failed(throttle, clock, "ada", HERE) for _ in range(2)]
    assert min(waits) > 0
    throttle.begin("ada", HERE, "browser")
    throttle.succeeded("ada", HERE, "browser")
    for _ in range(OF_BROWSER.free):
        throttle.begin("ada", THERE, "browser")
    with pytest.raises(TooManyAttempts):
        throttle.begin("ada", THERE, "browser")
    throttle.begin("bob", THERE)
    throttle.begin("ada", THERE, "another browser")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dropmill.access.throttle.KNOWN_MAX", 30)
    throttle = Throttle(Hands())
    for number in range(100):
        throttle.begin(f"name {number}", f"198.51.100.{number}")
    assert len(throttle._failures) == 30 < KNOWN_MAX
