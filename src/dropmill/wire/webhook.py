"""What the webhook posts."""

from typing import Literal, TypedDict

from dropmill.model.deliveries import Delivery
from dropmill.text import time_text
from dropmill.wire.submissions import CountsJson, counts_json


class LinksJson(TypedDict):
    """Where to read more."""

    submission: str
    files: str
    results: str
    page: str


class DeliveryJson(TypedDict):
    """A submission has settled; `number` counts how often."""

    event: Literal["submission.settled"]
    submission_id: str
    number: int
    settled_at: str
    counts: CountsJson
    links: LinksJson


def delivery_json(delivery: Delivery, base: str = "") -> DeliveryJson:
    """A delivery; its links begin with `base`, the server's public URL."""
    api = f"{base}/api/v1/submissions/{delivery.submission_id}"
    return {
        "event": "submission.settled",
        "submission_id": delivery.submission_id,
        "number": delivery.number,
        "settled_at": time_text(delivery.settled_at),
        "counts": counts_json(delivery.counts),
        "links": {
            "submission": api,
            "files": f"{api}/files",
            "results": f"{api}/results.zip",
            "page": f"{base}/submissions/{delivery.submission_id}",
        },
    }
