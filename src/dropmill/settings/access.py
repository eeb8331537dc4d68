"""Settings that say who may use the server."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from dropmill.model.caller import Role
from dropmill.model.hosts import is_loopback
from dropmill.settings import values
from dropmill.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class AccessSettings:
    """Read by `app` at the start, by `access`, and by `web/server/guard` for each request."""

    auth: str = setting(
        "--auth",
        values.one_of("auto", "off", "required"),
        "auto",
        "auto: open on this machine alone, otherwise sign-in (docs/accounts.md). off: open to everyone who can reach "
        "the address. required: sign-in.",
        metavar="auto|off|required",
    )
    private: bool = setting(
        "--private",
        values.switch,
        False,
        "Without accounts, each browser sees only the submissions that it has sent, which a cookie tells; programs "
        "must keep the cookie, too.",
        metavar="",
    )
    config_readable: bool = setting(
        "--config-readable",
        values.switch,
        False,
        "Viewers may read the config and its history, too; a config with secrets must not be readable.",
        metavar="",
    )
    insecure_http: bool = setting(
        "--insecure-http",
        values.switch,
        False,
        "Let people sign in, and programs send tokens, over plain http from other machines; everyone on the network in "
        "between can read passwords and tokens.",
        metavar="",
    )
    session_idle: float = setting(
        "--session-idle",
        values.age,
        7 * 86400.0,
        "Time after which a session ends if its browser sends nothing. Default: 7d.",
        metavar="AGE",
    )
    session_lifetime: float = setting(
        "--session-lifetime",
        values.age,
        30 * 86400.0,
        "Time after which a session ends however often it is used. Default: 30d.",
        metavar="AGE",
    )
    allowed_host: tuple[str, ...] = setting(
        "--allowed-host",
        values.text,
        (),
        "Additional host name this server answers for; may be given several times.",
        metavar="HOST",
        many=True,
    )
    allowed_origin: tuple[str, ...] = setting(
        "--allowed-origin",
        values.origin,
        (),
        "Additional origin whose pages may call this server, such as https://a.example; where people sign in, with a "
        "token. May be given several times.",
        metavar="ORIGIN",
        many=True,
    )

    auth_header: str | None = setting(
        "--auth-header",
        values.header_name,
        None,
        "Header in which a proxy of --trusted-proxy says who is signed in there, such as Remote-User; from anybody "
        "else it counts for nothing. The proxy must replace it in every request.",
        metavar="NAME",
    )
    auth_groups_header: str | None = setting(
        "--auth-groups-header",
        values.header_name,
        None,
        "Header in which that proxy lists the person's groups, between commas, such as Remote-Groups.",
        metavar="NAME",
    )
    auth_group: tuple[tuple[Role, str], ...] = setting(
        "--auth-group",
        values.role_and_group,
        (),
        "A group and the role that it gives at each visit, such as admin=ops; of several the highest counts, and "
        "whoever is in none is a viewer. May be given several times. Without it roles are set per account.",
        metavar="ROLE=GROUP",
        many=True,
    )

    jwt_issuer: str | None = setting(
        "--jwt-issuer",
        values.http_url,
        None,
        "Issuer whose JWTs programs may send as bearer tokens, exactly as in their `iss`.",
        metavar="URL",
    )
    jwt_audience: str | None = setting(
        "--jwt-audience",
        values.text,
        None,
        "Audience that such a JWT must be for (`aud`).",
        metavar="TEXT",
    )
    jwt_keys: str | None = setting(
        "--jwt-keys",
        values.keys,
        None,
        "File or https URL of the JSON Web Key Set with which these are checked.",
        metavar="FILE|URL",
    )
    jwt_name_claim: str = setting(
        "--jwt-name-claim",
        values.text,
        "preferred_username",
        "Claim of a JWT that names a new account; where it is missing, `sub` does.",
        metavar="CLAIM",
    )
    jwt_groups_claim: str = setting(
        "--jwt-groups-claim",
        values.text,
        "groups",
        "Claim of a JWT with the groups for --auth-group.",
        metavar="CLAIM",
    )

    oidc_issuer: str | None = setting(
        "--oidc-issuer",
        values.issuer,
        None,
        "Identity provider with which people may sign in (OpenID Connect): its issuer, exactly as it calls itself. "
        "Needs --oidc-client-id and --public-url.",
        metavar="URL",
    )
    oidc_client_id: str | None = setting(
        "--oidc-client-id",
        values.line,
        None,
        "Client id of this server at the provider.",
        metavar="ID",
    )
    oidc_client_secret: str | None = setting(
        None,
        values.text,
        None,
        "Client secret of this server there, if the provider wants one. Only as a variable, or better in a file that "
        "DROPMILL_OIDC_CLIENT_SECRET_FILE names: other users can read a command line.",
        metavar="SECRET",
        is_secret=True,
    )
    oidc_name: str | None = setting(
        "--oidc-name",
        values.line,
        None,
        "How the sign-in page calls the provider. By default the host of the issuer.",
        metavar="TEXT",
    )
    oidc_scope: tuple[str, ...] = setting(
        "--oidc-scope",
        values.scope,
        (),
        "Additional scope to ask the provider for, beside openid and profile; some send groups only for groups, and a "
        "name only for email. May be given several times.",
        metavar="SCOPE",
        many=True,
    )
    oidc_name_claim: str = setting(
        "--oidc-name-claim",
        values.text,
        "preferred_username",
        "Claim of the provider that names a new account; where it is missing, `sub` does.",
        metavar="CLAIM",
    )
    oidc_groups_claim: str = setting(
        "--oidc-groups-claim",
        values.text,
        "groups",
        "Claim of the provider with the groups that give roles.",
        metavar="CLAIM",
    )
    oidc_roles: tuple[tuple[Role, str], ...] = setting(
        "--oidc-roles",
        values.role_and_group,
        (),
        "A group of the provider and the role that it gives at each sign-in, such as admin=ops, instead of those of "
        "--auth-group. May be given several times.",
        metavar="ROLE=GROUP",
        many=True,
    )

    @property
    def is_called_from_elsewhere(self) -> bool:
        """Whether pages that are not of this machine may call the server."""
        return not all(is_loopback(urlsplit(origin).hostname or "") for origin in self.allowed_origin)
