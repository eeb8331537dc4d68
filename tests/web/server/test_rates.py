"""How many requests a client may send, by a clock that is set by hand."""

from dataclasses import replace

import pytest
from tests.support.scenarios import CALLER

from dropmill.model.errors import TooManyRequests
from dropmill.model.ids import AccountId
from dropmill.settings import values
from dropmill.settings.values import Rate
from dropmill.web.routes import ROUTES
from dropmill.web.server.rates import UNCOUNTED, RequestRates

HERE, THERE = "192.0.2.1", "192.0.2.2"
ADA = replace(CALLER, account="ada", account_id=AccountId("a" * 32))


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(rates: RequestRates, ip: str = HERE, most: int = 1000) -> int:
    """How many requests are taken now."""
    for count in range(most):
        try:
            rates.require(CALLER, ip)
        except TooManyRequests:
            return count
    return most


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/s", Rate(times=5, seconds=1)),
        ("600/m", Rate(times=600, seconds=60)),
        (" 10000 / H", Rate(times=10_000, seconds=3600)),
    ],
)
def test_a_rate_is_a_number_in_a_time(text: str, rate: Rate) -> None:
    assert values.rate(text) == rate


@pytest.mark.parametrize("text", ["", "5", "5/", "5/d", "0/s", "-1/s", "1.5/s", "x/s", "/s", "5/s/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        values.rate(text)


@pytest.mark.parametrize("rate", ["1/s", "3/s", "7/m", "600/m", "11/h"])
def test_a_client_may_use_its_time_at_once_and_then_goes_on_evenly(rate: str) -> None:
    clock, wanted = Hands(), values.rate(rate)
    rates = RequestRates(wanted, clock)
    assert taken(rates) == wanted.times
    clock.now += wanted.seconds / wanted.times
    assert taken(rates) == 1
    clock.now += wanted.seconds
    assert taken(rates) == wanted.times
    clock.now += 1e9
    assert taken(rates) == wanted.times


def test_who_waits_as_long_as_told_is_taken() -> None:
    clock = Hands()
    rates = RequestRates(Rate(times=7, seconds=60), clock)
    for _ in range(50):
        while True:
            try:
                rates.require(CALLER, HERE)
                break
            except TooManyRequests as error:
                clock.now += error.extra["retry_after"]
    assert clock.now - 1000 < 50 * 10


def test_an_account_counts_wherever_it_is_and_an_address_without_one_for_itself() -> None:
    rates = RequestRates(Rate(times=2, seconds=60), Hands())
    for ip in (HERE, THERE):
        rates.require(ADA, ip)
    with pytest.raises(TooManyRequests):
        rates.require(ADA, "198.51.100.1")
    assert taken(rates, HERE) == 2
    with pytest.raises(TooManyRequests):
        rates.require(None, HERE)
    assert taken(rates, "2001:db8::1") == 2
    assert taken(rates, "2001:db8::2") == 0
    assert taken(rates, "2001:db8:0:1::1") == 2


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dropmill.web.server.rates.KNOWN_MAX", 30)
    rates = RequestRates(Rate(times=1, seconds=60), Hands())
    for number in range(100):
        rates.require(None, f"198.51.100.{number}")
    assert len(rates._even) == 30


def test_each_route_that_does_not_count_is_one() -> None:
    assert ROUTES.keys() >= UNCOUNTED
