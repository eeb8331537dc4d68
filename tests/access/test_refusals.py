"""Refusals over a real ledger: what is recorded of them, and how little."""

from dataclasses import replace

import pytest
from tests.support.scenarios import CLIENT, all_events

from dropmill.access import refusals as refusals_module
from dropmill.access.refusals import EVENTS_A_MINUTE, Refusals
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.errors import OutOfSpace
from dropmill.model.events import EventName, RefusalReason

FORBIDDEN = RefusalReason.FORBIDDEN


class Ticking:
    """A clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def counts(ledger: SqliteLedger) -> list[int]:
    """How often each recorded refusal was counted."""
    return [event.data["count"] for event in await all_events(ledger) if event.name is EventName.ACCOUNT_REFUSED]


async def test_a_refusal_is_recorded_at_once_and_its_repetitions_at_longer_and_longer_intervals(
    ledger: SqliteLedger,
) -> None:
    clock = Ticking()
    refusals = Refusals(ledger, clock)
    for _ in range(12 * 60):  # twelve hours, every ten seconds
        for _ in range(6):
            refusals.note(FORBIDDEN, CLIENT, route="GET config.read")
            await refusals.record()
            clock.now += 10
    found = await counts(ledger)
    assert found[:4] == [1, 6, 12, 24]
    assert len(found) < 20
    clock.now += 3600
    await refusals.record()
    assert sum(await counts(ledger)) == 12 * 60 * 6


async def test_what_differs_in_client_account_or_reason_is_recorded_by_itself(ledger: SqliteLedger) -> None:
    refusals = Refusals(ledger, Ticking())
    other = replace(CLIENT, ip="198.51.100.9")
    for client, reason in ((CLIENT, FORBIDDEN), (other, FORBIDDEN), (CLIENT, RefusalReason.BAD_CREDENTIALS)):
        refusals.note(reason, client)
        refusals.note(reason, client)
    await refusals.record()
    assert await counts(ledger) == [2, 2, 2]


async def test_many_addresses_cannot_fill_the_ledger_nor_the_memory(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(refusals_module, "KNOWN_MAX", 200)
    clock = Ticking()
    refusals = Refusals(ledger, clock)
    for number in range(1000):
        refusals.note(FORBIDDEN, replace(CLIENT, ip=f"10.0.{number // 256}.{number % 256}"))
    await refusals.record()
    assert len(await counts(ledger)) == EVENTS_A_MINUTE
    assert "800 refusals are not in the audit" in caplog.text
    clock.now += 61
    await refusals.record()
    assert len(await counts(ledger)) == 2 * EVENTS_A_MINUTE


async def test_one_network_of_ipv6_is_one_client(ledger: SqliteLedger) -> None:
    refusals = Refusals(ledger, Ticking())
    for number in range(50):
        refusals.note(FORBIDDEN, replace(CLIENT, ip=f"2001:db8::{number:x}"))
    await refusals.record()
    assert await counts(ledger) == [50]


async def test_what_the_ledger_cannot_take_now_is_recorded_later(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Ticking()
    refusals = Refusals(ledger, clock)
    refusals.note(FORBIDDEN, CLIENT)

    async def full(*_: object, **__: object) -> None:
        raise OutOfSpace("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "record_refusal", full)
        await refusals.record()
    clock.now += 61
    await refusals.record()
    assert await counts(ledger) == [1]


async def test_what_is_not_due_is_recorded_when_the_server_stops(ledger: SqliteLedger) -> None:
    refusals = Refusals(ledger, Ticking())
    for _ in range(3):
        refusals.note(FORBIDDEN, CLIENT)
        await refusals.record()
    assert await counts(ledger) == [1]
    await refusals.record(all_of_it=True)
    assert await counts(ledger) == [1, 2]
