"""The truth: state and events, changed together in one transaction or not at all.

A Protocol for each capability; `Ledger` is their sum, for what implements it and for where the whole is composed.
Illegal transitions raise `IllegalTransition`, unknown ids `NotFound`; both change nothing. Changes handed over in an
order are made in that order.
"""

from typing import Protocol

from dropmill.ports.ledger.config import ConfigLedger
from dropmill.ports.ledger.deliveries import DeliveryLedger
from dropmill.ports.ledger.events import FeedLedger
from dropmill.ports.ledger.history import HistoryLedger
from dropmill.ports.ledger.jobs import AttemptLedger, JobLedger
from dropmill.ports.ledger.nodes import NodeLedger
from dropmill.ports.ledger.retention import RetentionLedger
from dropmill.ports.ledger.submissions import IntakeLedger


class Ledger(
    IntakeLedger,
    AttemptLedger,
    JobLedger,
    ConfigLedger,
    FeedLedger,
    HistoryLedger,
    RetentionLedger,
    DeliveryLedger,
    NodeLedger,
    Protocol,
):
    """All of it: what an engine implements."""
