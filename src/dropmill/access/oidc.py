"""Sign-in with an identity provider (`--oidc-issuer`): OpenID Connect, the authorization code flow with PKCE.

A browser begins here, signs in at the provider, and comes back with a code, for which this server gets an id token from
the provider. Everything that comes back is checked against what this browser has begun: the state is in the ledger, is
good once and for some minutes, and only in the browser with the right cookie. Nonce and PKCE verifier are computed from
the state and the cookie's secret, so the ledger has neither, and nobody else can compute them.

Nothing of what the provider sends is logged or shown but words of standards: who answers badly might be anybody.
Who is signed in is an account of the issuer and `sub`, see `dropmill.model.accounts.Identity`.
"""

import asyncio
import base64
import hmac
import logging
import re
import time
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import authlib.deprecate
import httpx
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError

from dropmill.access import http
from dropmill.access.jose import (
    ALGORITHMS,
    KEYS_MAX,
    LEEWAY_S,
    Keys,
    key_id_of,
    key_of,
    subject_of,
    usable_keys,
    verified_claims,
    words,
)
from dropmill.access.kept import Kept
from dropmill.access.proxy import Claim, role_of
from dropmill.access.refusals import Refusals
from dropmill.access.secrets import digest, is_session_secret, new_session_secret
from dropmill.access.sessions import Sessions, SignedIn
from dropmill.access.throttle import Throttle, network_of
from dropmill.model.accounts import Identity, PendingSignIn, checked_name
from dropmill.model.caller import Role
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadRequest, ProviderUnavailable, SignInFailed, TooManyAttempts, Unavailable
from dropmill.model.events import RefusalReason, SignInMethod
from dropmill.ports.ledger.accounts import PendingSignIns
from dropmill.settings import Settings
from dropmill.settings.values import secure_url

with warnings.catch_warnings():
    # Authlib prefers a successor of httpx, which nothing else here uses; its class works with either.
    warnings.simplefilter("ignore", authlib.deprecate.AuthlibDeprecationWarning)
    from authlib.integrations.base_client import OAuthError
    from authlib.integrations.httpx_client import AsyncOAuth2Client

PENDING_S: Final = 600.0  # for signing in at the provider, which may ask for a second factor
CURRENT_S: Final = 10.0  # a browser is sent to a provider that was reached so lately
REST_S: Final = 1.0  # between two readings: who asks for one has a code of the provider, or is bounded by `CURRENT_S`
AT_ONCE: Final = 50  # calls of the provider; more sign-ins than that have to be tried again
ANSWER_MAX: Final = 256 * 1024  # bytes of a document, of an answer with tokens, of claims
ID_TOKEN_MAX: Final = 64 * 1024  # characters; a hundred groups take some thousands
CODE_MAX: Final = 4096  # characters of what comes back in the address
LOGGED_S: Final = 60.0  # between two lines of the log that say the same

CALLBACK: Final = "/sign-in/oidc/callback"
"""The path of the redirect URI, below the public URL."""

# RFC 6749, sections 4.1.2.1 and 5.2; OpenID Connect Core, section 3.1.2.6. Other words might be anything.
_ERRORS: Final = frozenset(
    {"access_denied", "invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "server_error"}
    | {"temporarily_unavailable", "unauthorized_client", "unsupported_grant_type", "unsupported_response_type"}
    | {"account_selection_required", "consent_required", "interaction_required", "login_required"}
)
_DENIALS: Final = frozenset(
    {"access_denied", "account_selection_required", "consent_required", "interaction_required", "login_required"}
)
_OUTAGES: Final = frozenset({"server_error", "temporarily_unavailable"})
_CODE: Final = re.compile(r"[\x20-\x7e]+")  # RFC 6749, appendix A.11

log = logging.getLogger(__name__)


# --- the provider ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Provider:
    """What a provider says of itself (OpenID Connect Discovery 1.0, section 3).

    Attributes:
        authorization_endpoint: where browsers sign in.
        token_endpoint: where this server gets the id token.
        userinfo_endpoint: where it gets more claims; None without one.
        token_auth: how this server shows its secret, as Authlib names it.
        sends_issuer: whether each answer names the issuer (RFC 9207).
        has_pkce: whether it says that it knows PKCE with S256; None if it says nothing of PKCE.
        has_algorithm: whether it signs in a way that is accepted here.
        keys: of its signatures.
    """

    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str | None
    token_auth: str
    sends_issuer: bool
    has_pkce: bool | None
    has_algorithm: bool
    keys: Keys


async def read_provider(issuer: str) -> Provider:
    """What the provider at an issuer says of itself now, and its keys.

    Raises:
        OSError, httpx.HTTPError: it does not answer.
        ValueError: it answers something else; the sentence says what.
    """
    address = issuer.rstrip("/") + "/.well-known/openid-configuration"
    given = http.json_object(await http.fetch(address, ANSWER_MAX))
    named = given.get("issuer")
    if named != issuer:
        raise ValueError(f"it calls itself {_shown(named)}, and --oidc-issuer must be exactly that")
    keys = await http.fetch(_endpoint(given, "jwks_uri"), KEYS_MAX)
    methods = given.get("code_challenge_methods_supported")
    return Provider(
        authorization_endpoint=_endpoint(given, "authorization_endpoint"),
        token_endpoint=_endpoint(given, "token_endpoint"),
        userinfo_endpoint=_endpoint(given, "userinfo_endpoint") if "userinfo_endpoint" in given else None,
        token_auth=_token_auth(words(given.get("token_endpoint_auth_methods_supported"))),
        sends_issuer=given.get("authorization_response_iss_parameter_supported") is True,
        has_pkce=None if methods is None else "S256" in words(methods),
        has_algorithm=not set(ALGORITHMS).isdisjoint(words(given.get("id_token_signing_alg_values_supported"))),
        keys=await asyncio.to_thread(usable_keys, keys),
    )


def _token_auth(methods: Sequence[str]) -> str:
    # Without the list it is Basic (Discovery, section 3).
    is_by_post = "client_secret_post" in methods and "client_secret_basic" not in methods
    return "client_secret_post" if is_by_post else "client_secret_basic"


def _endpoint(given: Mapping[str, Any], name: str) -> str:
    found = given.get(name)
    try:
        return secure_url(found if isinstance(found, str) else "")
    except ValueError:
        raise ValueError(f"its {name} is no https URL") from None


def _shown(named: object) -> str:
    """A provider's name for itself, for who set another one; nothing that is no URL."""
    try:
        return secure_url(named if isinstance(named, str) and len(named) < 300 else "")
    except ValueError:
        return "something else"


class _UnknownKey(ValueError):
    """An id token was signed with a key that the provider has not published."""


# --- signing in ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class OidcSettings:
    """How this server is known to the provider, and what it makes of its claims.

    Attributes:
        issuer: exactly what the provider calls itself.
        client_id: of this server.
        client_secret: None: the provider asks for none.
        redirect_uri: where browsers come back, as the provider knows it.
        name: as the page calls the provider.
        scopes: asked for; with `openid`.
        name_claim: names a new account; where it is missing, `sub` does.
        groups_claim: a list of groups, or one.
        roles: roles with a group that gives it; empty: groups decide nothing.
    """

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    redirect_uri: str
    name: str
    scopes: Sequence[str]
    name_claim: str
    groups_claim: str
    roles: Sequence[tuple[Role, str]]

    @classmethod
    def from_settings(cls, settings: Settings) -> "OidcSettings | None":
        """Those of a server; None if nobody signs in with a provider."""
        if settings.oidc_issuer is None or settings.oidc_client_id is None or settings.public_url is None:
            return None
        return cls(
            issuer=settings.oidc_issuer,
            client_id=settings.oidc_client_id,
            client_secret=settings.oidc_client_secret,
            redirect_uri=f"{settings.public_url}{CALLBACK}",
            name=settings.oidc_name or urlsplit(settings.oidc_issuer).hostname or settings.oidc_issuer,
            scopes=tuple(dict.fromkeys(("openid", "profile", *settings.oidc_scope))),
            name_claim=settings.oidc_name_claim,
            groups_claim=settings.oidc_groups_claim,
            roles=settings.oidc_roles or settings.auth_group,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A sign-in that has begun.

    Attributes:
        url: of the provider, to which the browser goes on.
        browser: the secret for its cookie; it may have had it before, for a sign-in in another tab.
        lasts_s: in how many seconds the answer comes too late.
    """

    url: str
    browser: str
    lasts_s: float = PENDING_S


class Oidc:
    """Signs people in with one provider.

    Attributes:
        name: as the page calls it.
    """

    def __init__(
        self, settings: OidcSettings, *, ledger: PendingSignIns, sessions: Sessions, refusals: Refusals
    ) -> None:
        """Know nothing of the provider yet; `run` asks it.

        Args:
            settings: of the server.
            ledger: keeps what has begun.
            sessions: begins sessions.
            refusals: records who is refused.
        """
        self.name = settings.name
        self._settings = settings
        self._ledger = ledger
        self._sessions = sessions
        self._refusals = refusals
        self._throttle = Throttle()
        self._calls = 0
        self._logged: dict[str, float] = {}
        self._provider: Kept[Provider] = Kept(
            lambda: read_provider(settings.issuer), "The provider of --oidc-issuer", rest_s=REST_S
        )
        self._expected = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True},
        )

    async def run(self) -> None:
        """Keep what the provider says of itself up to date, until cancelled."""
        await self._provider.run()

    # --- begin -------------------------------------------------------------------------------------------------------

    async def begin(self, client: ClientIdentity, browser: str | None, wanted: str) -> Begun:
        """Begin a sign-in.

        Args:
            client: who asks.
            browser: the secret in the browser's cookie; None without one.
            wanted: the path on this site to go on to.

        Raises:
            ProviderUnavailable: the provider does not answer now, so the browser is not sent there.
            OutOfSpace, Unavailable: the ledger cannot be written.
        """
        await self._provider.not_older_than(CURRENT_S)
        provider = self._provider.value
        if provider is None or not self._provider.is_current:
            self._refusals.note(RefusalReason.PROVIDER_FAILED, client)
            raise ProviderUnavailable(_AWAY)
        if browser is None or not is_session_secret(browser):
            browser = new_session_secret()
        state, now = new_session_secret(), utc_now()
        pending = PendingSignIn(
            state=digest(state),
            browser=digest(browser),
            network=network_of(client.ip),
            next=wanted,
            expires_at=now + timedelta(seconds=PENDING_S),
        )
        await self._ledger.add_pending_sign_in(pending, now)
        async with self._client(provider) as calling:
            url, _ = calling.create_authorization_url(
                provider.authorization_endpoint,
                state=state,
                code_verifier=_derived(browser, "verifier", state),
                nonce=_derived(browser, "nonce", state),
            )
        return Begun(url=url, browser=browser)

    # --- finish ------------------------------------------------------------------------------------------------------

    async def take(self, client: ClientIdentity, browser: str | None, answer: Mapping[str, str]) -> PendingSignIn:
        """What an answer of the provider belongs to. It is taken away: nobody can answer it a second time.

        Args:
            client: who comes back.
            browser: the secret in the browser's cookie; None without one.
            answer: the parameters of the address.

        Raises:
            SignInFailed: this browser has begun nothing with this state, or too long ago, or it was answered before.
            OutOfSpace, Unavailable: the ledger cannot be written.
        """
        found, state = None, answer.get("state")
        if browser is not None and state is not None and is_session_secret(browser) and is_session_secret(state):
            found = await self._ledger.take_pending_sign_in(digest(state), digest(browser), utc_now())
        if found is None and answer.get("error") in _DENIALS:  # some providers do not send the state with an error
            self._refuse_error(client, answer["error"])
        if found is None:
            self._refusals.note(RefusalReason.WRONG_STATE, client)
            raise SignInFailed(
                "This sign-in has expired, was used already, or began in another browser; try again.", reason="state"
            )
        return found

    async def finish(
        self, client: ClientIdentity, browser: str, answer: Mapping[str, str], *, replaced: str | None = None
    ) -> SignedIn:
        """Sign in whom the provider names.

        Args:
            client: who comes back.
            browser: the secret in the browser's cookie.
            answer: the parameters of the address, after `take` has taken its `state`.
            replaced: what the browser shows as the secret of its session, which ends with this.

        Raises:
            SignInFailed: the provider denies it, or its answer is not valid; or the account is disabled or cannot be
                made.
            ProviderUnavailable: it does not answer in time, or with an error of its own.
            TooManyAttempts: too many failed before.
            OutOfSpace, Unavailable: the ledger cannot be written, or too many sign in at this moment.
        """
        provider, issuer = self._provider.value, answer.get("iss")
        if provider is None:  # the server has been started anew meanwhile
            await self._provider.again()
            if (provider := self._provider.value) is None:
                self._is_away(client, "it cannot be read")
        if issuer != self._settings.issuer and (issuer is not None or provider.sends_issuer):
            self._is_wrong(client, "the answer to the browser is of another issuer")
        if "error" in answer:
            self._refuse_error(client, answer["error"])
        code = answer.get("code", "")
        if not 1 <= len(code) <= CODE_MAX or _CODE.fullmatch(code) is None:
            self._is_wrong(client, "the answer to the browser has no code")
        state = answer["state"]
        async with self._call(client):
            claims = await self._claims(client, provider, code, state, browser)
        return await self._signed_in(client, claims, replaced)

    async def _claims(
        self, client: ClientIdentity, provider: Provider, code: str, state: str, browser: str
    ) -> Mapping[str, Any]:
        """What the provider says of who signed in, verified."""
        tokens = await self._tokens(client, provider, code, _derived(browser, "verifier", state))
        token = tokens.get("id_token")
        if not isinstance(token, str):
            self._is_wrong(client, "there is no id token")
        claims = await self._verified(client, token)
        nonce, parties = claims.get("nonce"), claims.get("azp")
        if not isinstance(nonce, str) or not hmac.compare_digest(
            nonce.encode(), _derived(browser, "nonce", state).encode()
        ):
            self._is_wrong(client, "the id token has another nonce")
        if parties != self._settings.client_id and (parties is not None or len(words(claims.get("aud"))) > 1):
            self._is_wrong(client, "the id token was made for another client")
        return await self._completed(client, provider, claims, tokens.get("access_token"))

    async def _tokens(self, client: ClientIdentity, provider: Provider, code: str, verifier: str) -> Mapping[str, Any]:
        """The answer of the token endpoint."""
        try:
            async with asyncio.timeout(http.CALL_S), self._client(provider) as calling:
                found: Mapping[str, Any] = await calling.fetch_token(
                    provider.token_endpoint,
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=verifier,
                    redirect_uri=self._settings.redirect_uri,
                )
        except OAuthError as error:
            self._is_wrong(client, f"the token endpoint answers {_known(error.error)}")
        except (OSError, httpx.HTTPError) as error:
            self._is_away(client, f"the token endpoint does not answer ({type(error).__name__})")
        except Exception as error:  # what a foreign answer can make Authlib raise is not documented
            self._is_wrong(client, f"the token endpoint's answer cannot be read ({type(error).__name__})")
        return found

    async def _verified(self, client: ClientIdentity, token: str) -> Mapping[str, Any]:
        """The claims of an id token; after reading the keys again if it was not signed with one of those known."""
        try:
            key_id = key_id_of(token, ID_TOKEN_MAX)
            try:
                claims = self._claims_by_key(key_id, token)
            except (_UnknownKey, BadSignatureError):  # some providers change the key and not its id
                await self._provider.again(is_patient=True)
                claims = self._claims_by_key(key_id, token)
            subject_of(claims)
        except (JoseError, ValueError, OverflowError) as error:
            self._is_wrong(client, f"the id token is not valid: {_words_of(error)}")
        return claims

    def _claims_by_key(self, key_id: str | None, token: str) -> Mapping[str, Any]:
        key = None if self._provider.value is None else key_of(self._provider.value.keys, key_id)
        if key is None:
            raise _UnknownKey
        return verified_claims(token, key, self._expected)

    async def _completed(
        self, client: ClientIdentity, provider: Provider, claims: Mapping[str, Any], token: object
    ) -> Mapping[str, Any]:
        """The claims, with those of the userinfo endpoint if some are missing: many id tokens have few."""
        wanted = {self._settings.name_claim, *((self._settings.groups_claim,) if self._settings.roles else ())}
        if wanted <= claims.keys() or provider.userinfo_endpoint is None or not isinstance(token, str):
            return claims
        if len(token) > ID_TOKEN_MAX or not token.isascii() or not token.isprintable():
            self._is_wrong(client, "the access token cannot be sent")
        try:
            text = await http.fetch(provider.userinfo_endpoint, ANSWER_MAX, Authorization=f"Bearer {token}")
            more = http.json_object(text)
        except (OSError, httpx.HTTPError) as error:
            self._is_away(client, f"the userinfo endpoint does not answer ({type(error).__name__})")
        except ValueError as error:
            self._is_wrong(client, f"the userinfo endpoint's answer is not valid: {error}")
        if more.get("sub") != claims["sub"]:  # OpenID Connect Core, section 5.3.2
            self._is_wrong(client, "the userinfo endpoint's answer is about somebody else")
        return {**more, **claims}

    async def _signed_in(self, client: ClientIdentity, claims: Mapping[str, Any], replaced: str | None) -> SignedIn:
        settings, subject = self._settings, subject_of(claims)
        name = claims.get(settings.name_claim)
        try:
            checked = checked_name(name if isinstance(name, str) else subject, settings.name_claim)
        except BadRequest:
            self._refusals.note(RefusalReason.PROVIDER_FAILED, client)
            raise SignInFailed(
                "The provider calls you by a name that no account can have; ask an admin.", reason="name"
            ) from None
        role = role_of(words(claims.get(settings.groups_claim)), settings.roles)
        identity = Identity(issuer=settings.issuer, subject=subject)
        claim = Claim(name=checked, role=role)
        return await self._sessions.sign_in_vouched(client, identity, claim, SignInMethod.OIDC, replaced=replaced)

    # --- calls -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _client(self, provider: Provider) -> AsyncIterator[AsyncOAuth2Client]:
        """A client for one sign-in: it keeps the tokens of whoever signs in."""
        async with AsyncOAuth2Client(
            self._settings.client_id,
            self._settings.client_secret,
            token_endpoint_auth_method=provider.token_auth if self._settings.client_secret else "none",
            scope=" ".join(self._settings.scopes),
            redirect_uri=self._settings.redirect_uri,
            code_challenge_method="S256",
            **await http.client_options(ANSWER_MAX),
        ) as client:
            yield client

    @asynccontextmanager
    async def _call(self, client: ClientIdentity) -> AsyncIterator[None]:
        """Within it the provider may be called; counts as an attempt of the client, which fails if its answer is wrong.

        Raises:
            TooManyAttempts: too many have failed.
            Unavailable: the provider is being called by too many.
        """
        if self._calls >= AT_ONCE:
            raise Unavailable("Too many people sign in at this moment; try again.")
        try:
            self._throttle.begin(None, client.ip)
        except TooManyAttempts:
            self._refusals.note(RefusalReason.THROTTLED, client)
            raise
        self._calls += 1
        try:
            yield
        except SignInFailed:
            raise
        except BaseException:  # no answer is nobody's guess
            self._throttle.withdraw(None, client.ip)
            raise
        else:
            self._throttle.succeeded(None, client.ip)
        finally:
            self._calls -= 1

    # --- refuse ------------------------------------------------------------------------------------------------------

    def _refuse_error(self, client: ClientIdentity, error: str) -> NoReturn:
        """Refuse what the provider refuses."""
        if error in _DENIALS:
            self._refusals.note(RefusalReason.PROVIDER_DENIED, client)
            raise SignInFailed("The provider did not let you in, or you cancelled; try again.", reason="denied")
        if error in _OUTAGES:
            self._is_away(client, f"the answer to the browser is {error}")
        self._is_wrong(client, f"the answer to the browser is {_known(error)}")

    def _is_wrong(self, client: ClientIdentity, why: str) -> NoReturn:
        self._note_failure(client, why)
        raise SignInFailed(
            "The provider's answer could not be verified; try again. The server's log has the reason.", reason="answer"
        )

    def _is_away(self, client: ClientIdentity, why: str) -> NoReturn:
        self._note_failure(client, why)
        raise ProviderUnavailable(_AWAY)

    def _note_failure(self, client: ClientIdentity, why: str) -> None:
        """Record a failure. Who asks decides how often, so the log gets each reason once in a while."""
        self._refusals.note(RefusalReason.PROVIDER_FAILED, client)
        now = time.monotonic()
        if now - self._logged.get(why, -LOGGED_S) >= LOGGED_S:
            self._logged[why] = now
            log.warning("A sign-in with the provider of --oidc-issuer failed: %s.", why)


_AWAY: Final = "The identity provider does not answer now; try again, or sign in with an account of this server."


def _derived(browser: str, what: str, state: str) -> str:
    """A value for one sign-in that only who has the cookie's secret can compute; in the form of RFC 7636's verifier."""
    value = hmac.digest(browser.encode(), f"{what} {state}".encode(), "sha256")
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _known(error: object) -> str:
    """An error code of the standards; another text may be anything."""
    return error if isinstance(error, str) and error in _ERRORS else "an unknown error"


def _words_of(error: Exception) -> str:
    """What is wrong with a token. Never the error's own words: they may quote it."""
    claim = getattr(error, "claim", None)
    kind = getattr(error, "error", None) or type(error).__name__.strip("_")
    return f"{kind}, {claim}" if isinstance(claim, str) else str(kind)
