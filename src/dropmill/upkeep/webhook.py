"""The webhook: a call each time a submission settles, made at least once, in the order of their numbers.

The transaction in which a submission settles records a delivery in the ledger. This module makes the call, and removes
the delivery when the receiver has answered 2xx. Until then it tries again for a day, also after restarts, with pauses
that double. The calls of one submission are made one after the other; those of different ones in parallel.

A call is a POST of JSON without redirects:

    {"event": "submission.settled", "submission_id", "number", "settled_at", "counts", "links"}
    Dropmill-Signature: t=<Unix time>,v1=<HMAC-SHA256 of "<t>.<body>" with the secret, in hexadecimal>

A receiver should act once on each (submission_id, number), and refuse a `t` that is minutes away from its own clock.
"""

import asyncio
import contextlib
import hashlib
import hmac
import logging
import random
import time
from datetime import timedelta

import httpx

from dropmill import __version__
from dropmill.health import Health
from dropmill.model.clock import Clock, utc_now
from dropmill.model.deliveries import Delivery
from dropmill.model.errors import SettingsError
from dropmill.model.ids import SubmissionId
from dropmill.ports.bus import DELIVERIES, Bus
from dropmill.ports.ledger.deliveries import DeliveryLedger
from dropmill.wire.encoding import dumps
from dropmill.wire.webhook import delivery_json

AT_ONCE = 8  # calls in parallel: the receiver is one server
CALL_TIMEOUT_S = 10.0  # from the look-up of its name to the head of its response
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 3600.0
GIVE_UP_S = 86400.0
POLL_S = 60.0  # hints may be lost

logger = logging.getLogger(__name__)


class Webhook:
    """Makes the deliveries that the ledger holds."""

    def __init__(
        self,
        *,
        ledger: DeliveryLedger,
        bus: Bus,
        url: str,
        secret: str | None,
        base: str = "",
        give_up_s: float = GIVE_UP_S,
        timeout_s: float = CALL_TIMEOUT_S,
        clock: Clock | None = None,
        health: Health | None = None,
    ) -> None:
        """Touch nothing yet.

        Args:
            ledger: has the deliveries.
            bus: gives a hint when there are new ones.
            url: of the receiver.
            secret: signs the calls; None: they are not signed.
            base: prefix of the links in a call: the server's public URL, or "" if it is not known.
            give_up_s: seconds after a submission settled from which on a failed call is not repeated.
            timeout_s: longest wait for a response.
            clock: computes ages; None: a new one.
            health: shows whether the ledger can be read; None: its own, which nobody reads.

        Raises:
            SettingsError: the address cannot be called.
        """
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise SettingsError(f"--on-settled: the address cannot be called: {error}.") from None
        self._clock = clock or Clock()
        self._health = health or Health()
        self._retry_at: dict[tuple[SubmissionId, int], float] = {}  # by the loop's clock; bounded by the deliveries
        self._ledger = ledger
        self._bus = bus
        self._secret = None if secret is None else secret.encode()
        self._base = base
        self._give_up_s = give_up_s
        self._timeout_s = timeout_s

    async def run(self) -> None:
        """Deliver until cancelled; a call that this interrupts is made again after the next start."""
        mailbox = self._bus.subscribe()
        mailbox.join(DELIVERIES)
        client = await asyncio.to_thread(  # reads certificates
            httpx.AsyncClient, follow_redirects=False, timeout=self._timeout_s
        )
        try:
            async with client:
                while True:
                    wait_s = await self._health.insist("webhook", lambda: self._deliver(client))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await mailbox.next()
        finally:
            mailbox.close()

    async def _deliver(self, client: httpx.AsyncClient) -> float:
        """Make the calls that are due; returns the seconds until the next poll, unless there is a hint."""
        found = await self._ledger.deliveries(limit=AT_ONCE)
        waits = [(self._wait_s(delivery), delivery) for delivery in found]
        if due := [delivery for wait_s, delivery in waits if wait_s <= 0]:
            made = await asyncio.gather(*(self._make(client, delivery) for delivery in due), return_exceptions=True)
            for error in filter(None, made):  # raised when all calls have ended, else a retry might repeat one
                raise error
            return 0
        return min([POLL_S, *(wait_s for wait_s, _ in waits)])

    def _wait_s(self, delivery: Delivery) -> float:
        """Seconds until a delivery is due; 0 or less if it is due. A step of the wall clock delays nothing."""
        if delivery.tries == 0:
            return 0
        wait_s = min((delivery.due_at - utc_now()).total_seconds(), LONGEST_RETRY_S)
        retry_at = self._retry_at.get((delivery.submission_id, delivery.number))
        return wait_s if retry_at is None else min(wait_s, retry_at - asyncio.get_running_loop().time())

    async def _make(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        problem = await self._call(client, delivery)
        key = (delivery.submission_id, delivery.number)
        self._retry_at.pop(key, None)
        if problem is None:
            await self._ledger.end_delivery(*key)
            return
        failure = (*key, problem)
        if delivery.settled_at <= self._clock.ago(self._give_up_s):
            logger.error("The webhook's call for submission %s, number %d, is given up: %s", *failure)
            await self._ledger.end_delivery(*key)
            return
        delay_s = min(FIRST_RETRY_S * 2.0 ** min(delivery.tries, 62), LONGEST_RETRY_S)
        delay_s *= random.uniform(0.9, 1.1)  # noqa: S311 - no secret; what failed together returns apart
        logger.warning("The webhook's call for submission %s, number %d, failed: %s", *failure)
        self._retry_at[key] = asyncio.get_running_loop().time() + delay_s
        await self._ledger.postpone_delivery(*key, utc_now() + timedelta(seconds=delay_s))

    async def _call(self, client: httpx.AsyncClient, delivery: Delivery) -> str | None:
        """Make one call; returns why it failed, None if the receiver answered 2xx."""
        body = body_of(delivery, self._base)
        headers = {"Content-Type": "application/json", "User-Agent": f"Dropmill/{__version__}"}
        if self._secret is not None:
            headers["Dropmill-Signature"] = signature(self._secret, int(time.time()), body)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                client.stream("POST", self._url, content=body, headers=headers) as answer,
            ):
                return None if answer.is_success else f"it answered {answer.status_code}"
        except TimeoutError:
            return f"it did not answer within {self._timeout_s:g} s"
        except (httpx.HTTPError, OSError) as error:
            return f"{type(error).__name__}: {error}"


def body_of(delivery: Delivery, base: str = "") -> bytes:
    """What a call says; the same for every try. Its links begin with `base`."""
    return dumps(delivery_json(delivery, base)).encode()


def signature(secret: bytes, at: int, body: bytes) -> str:
    """The value of `Dropmill-Signature`; `at` is the Unix time of the call."""
    return f"t={at},v1={hmac.new(secret, f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"
