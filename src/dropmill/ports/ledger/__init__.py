"""The truth: state and events, changed together in one transaction or not at all.

There is a Protocol for each capability. `Ledger` is their sum, for engines, and for the place that composes them.
Illegal transitions raise `IllegalTransition`, unknown ids `NotFound`; both change nothing. Changes are made in the
order in which they are called.
"""

from typing import Protocol

from dropmill.ports.ledger.accounts import AccountLedger
from dropmill.ports.ledger.config import ConfigLedger
from dropmill.ports.ledger.deliveries import DeliveryLedger
from dropmill.ports.ledger.events import FeedLedger
from dropmill.ports.ledger.history import HistoryLedger
from dropmill.ports.ledger.jobs import AttemptLedger, JobLedger
from dropmill.ports.ledger.links import LinkLedger
from dropmill.ports.ledger.nodes import NodeLedger
from dropmill.ports.ledger.notices import NoticeLedger
from dropmill.ports.ledger.quotas import QuotaLedger
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
    NoticeLedger,
    AccountLedger,
    LinkLedger,
    QuotaLedger,
    Protocol,
):
    """Everything an engine implements."""
