"""Who sent a request as far as the network shows."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientIdentity:
    """Who sent a request as far as the network shows. Not an account; never grants a right.

    Attributes:
        ip: the address in its shortest form; IPv4-mapped IPv6 is given as IPv4.
        host: name from reverse DNS; None until or unless known.
        verified: whether `host` resolves back to `ip`.
        domain: registered domain of `host`, or all after its first label; None for a bare name.
        user_agent: the header, cut to 400 characters; None if absent.
    """

    ip: str
    host: str | None = None
    verified: bool = False
    domain: str | None = None
    user_agent: str | None = None
