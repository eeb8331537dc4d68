"""The webhook: one call each time a submission settles, at least once, in the order of their numbers.

The ledger records a delivery in the transaction in which the submission settles; here it is made, and forgotten when
the other side has answered with 2xx. Until then it is tried again, less and less often, for a day, across restarts.
The calls of one submission are made one after the other; those of different ones side by side.

A call is a POST of JSON without redirects:

    {"event": "submission.settled", "submission_id", "number", "settled_at", "counts", "links"}
    Dropmill-Signature: t=<Unix time>,v1=<HMAC-SHA256 of "<t>.<body>" with the secret, in hexadecimal>

Whoever receives it takes a (submission_id, number) once, and refuses a `t` that is minutes away.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import random
import time
from datetime import timedelta

import httpx

from dropmill import __version__
from dropmill.model.errors import OutOfSpace, SettingsError, Unavailable
from dropmill.model.records import Delivery, utc_now
from dropmill.ports import DELIVERIES, Bus, Ledger

AT_ONCE = 8  # calls side by side: the other side is one server
CALL_TIMEOUT_S = 10.0  # from the look-up of its name to its answer's head
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 3600.0
GIVE_UP_S = 86400.0
POLL_S = 60.0  # hints may be lost

logger = logging.getLogger(__name__)


class Webhook:
    """Makes the deliveries that the ledger holds."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        bus: Bus,
        url: str,
        secret: str | None,
        base: str = "",
        give_up_s: float = GIVE_UP_S,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        """Touch nothing yet.

        Args:
            ledger: has the deliveries.
            bus: says when there are new ones.
            url: where to call.
            secret: signs the calls; None: they are not signed.
            base: what the links in a call begin with: the server's public URL, or "" where it is not known.
            give_up_s: seconds after a submission settled from which on a call that fails is the last.
            timeout_s: longest wait for an answer.

        Raises:
            SettingsError: the address cannot be called.
        """
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise SettingsError(f"--on-settled: the address cannot be called: {error}.") from None
        self._ledger = ledger
        self._bus = bus
        self._secret = None if secret is None else secret.encode()
        self._base = base
        self._give_up_s = give_up_s
        self._timeout_s = timeout_s

    async def run(self) -> None:
        """Deliver until cancelled; a call that is cut off by it is made again after the next start."""
        mailbox = self._bus.subscribe()
        mailbox.join(DELIVERIES)
        client = await asyncio.to_thread(  # reads certificates
            httpx.AsyncClient, follow_redirects=False, timeout=self._timeout_s
        )
        try:
            async with client:
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(await self._deliver(client)):
                            await mailbox.next()
        finally:
            mailbox.close()

    async def _deliver(self, client: httpx.AsyncClient) -> float:
        """Make the calls that are due; returns after how many seconds to look again, unless there is a hint."""
        try:
            found = await self._ledger.deliveries(limit=AT_ONCE)
            now = utc_now()
            due = [delivery for delivery in found if delivery.due_at <= now]
            if due:
                await asyncio.gather(*(self._make(client, delivery) for delivery in due))
                return 0
        except (OutOfSpace, Unavailable) as error:
            logger.warning("The webhook waits for the ledger: %s", error)
            return FIRST_RETRY_S
        return min([POLL_S, *((delivery.due_at - now).total_seconds() for delivery in found)])

    async def _make(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        problem = await self._call(client, delivery)
        if problem is None:
            await self._ledger.end_delivery(delivery.submission_id, delivery.number)
            return
        now = utc_now()
        told = (delivery.submission_id, delivery.number, problem)
        if (now - delivery.settled_at).total_seconds() >= self._give_up_s:
            logger.error("The webhook's call for submission %s, number %d, is given up: %s", *told)
            await self._ledger.end_delivery(delivery.submission_id, delivery.number)
            return
        delay_s = min(FIRST_RETRY_S * 2.0 ** min(delivery.tries, 62), LONGEST_RETRY_S)
        delay_s *= random.uniform(0.9, 1.1)  # noqa: S311 - no secret; what failed together returns apart
        logger.warning("The webhook's call for submission %s, number %d, failed: %s", *told)
        due_at = now + timedelta(seconds=delay_s)
        await self._ledger.postpone_delivery(delivery.submission_id, delivery.number, due_at)

    async def _call(self, client: httpx.AsyncClient, delivery: Delivery) -> str | None:
        """Make one call; returns what went wrong, None if it was taken."""
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
    below = f"{base}/api/v1/submissions/{delivery.submission_id}"
    told = {
        "event": "submission.settled",
        "submission_id": delivery.submission_id,
        "number": delivery.number,
        "settled_at": delivery.settled_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "counts": {name: getattr(delivery.counts, name) for name in delivery.counts.__slots__},
        "links": {
            "submission": below,
            "files": f"{below}/files",
            "results": f"{below}/results.zip",
            "page": f"{base}/submissions/{delivery.submission_id}",
        },
    }
    return json.dumps(told, separators=(",", ":")).encode()


def signature(secret: bytes, at: int, body: bytes) -> str:
    """The value of `Dropmill-Signature`; `at` is the Unix time of the call."""
    return f"t={at},v1={hmac.new(secret, f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"
