"""Settings about what lies between client and server: proxies, the public URL, name servers."""

from dataclasses import dataclass

from dropmill.settings import values
from dropmill.settings.field import setting
from dropmill.settings.values import Network, PublicUrl


@dataclass(frozen=True, kw_only=True)
class OriginSettings:
    """Read by `origin`, `web/server` and `app`."""

    public_url: PublicUrl | None = setting(
        "--public-url",
        values.public_url,
        None,
        "URL under which people reach the server through a proxy, such as https://example.com/drop; it may have a "
        "path.",
        metavar="URL",
    )
    trusted_proxy: tuple[Network, ...] = setting(
        "--trusted-proxy",
        values.network,
        (),
        "Address or network of a proxy whose X-Forwarded-For, -Proto and -Host the server trusts; may be given "
        "several times.",
        metavar="CIDR",
        many=True,
    )
    dns_servers: tuple[str, ...] = setting(
        "--dns-servers",
        values.address,
        (),
        "Name servers to ask for client host names instead of the machine's own; the hosts file is not read then.",
        metavar="HOST:PORT",
        many=True,
    )

    @property
    def base_path(self) -> str:
        """What clients put before every path of the server: the path of `public_url`; "" at the root."""
        return "" if self.public_url is None else self.public_url.path
