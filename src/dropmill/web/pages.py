"""The pages `/`, `/history`, `/submissions/<id>`, `/jobs/<id>` and `/config`; `static/js` updates them live.

Each of them also works without scripts, and so does `/sign-in`; `/account`, `/people` and `/audit` need them. A page
reads from the capabilities, for its caller, and changes things only through the API.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from quart import Blueprint, current_app, redirect, render_template, request, url_for

from dropmill import __version__, text
from dropmill.access.policy import Action
from dropmill.configfile.schema.schema import SchemaUnusable
from dropmill.intake import file_types
from dropmill.model.caller import Authentication, Caller, Role, Scope
from dropmill.model.errors import NotFound, Unavailable
from dropmill.model.events import AuditKind
from dropmill.model.ids import JobId, SubmissionId
from dropmill.model.jobs import JobState
from dropmill.model.quotas import Quota
from dropmill.text import time_text
from dropmill.web import messages
from dropmill.web.api import query
from dropmill.web.history import history_page
from dropmill.web.server.caller import caller_if_known, current_caller, prefixed
from dropmill.web.server.compression import compress_page
from dropmill.web.server.link_paths import link_path
from dropmill.web.services import EXTENSION, Services, services
from dropmill.web.sign_in import begin, finish, sign_in_page
from dropmill.web.static_files import PageFiles, files_of
from dropmill.wire.submissions import AbortedJson, CountsJson, submission_json

pages = Blueprint("pages", __name__)
pages.after_request(compress_page)


@pages.get("/")
async def drop() -> str:
    """The page for choosing and sending files."""
    settings = services().settings
    return await render_template(
        "upload.html",
        page_data={"title": settings.title, "intro": settings.intro, **rules_for_files()},
        title=settings.title,
        intro=settings.intro,
        accept=",".join(settings.accept),
        processor=services().processor.label if may(Action.SEE_SERVER) else "",
        client_ip=current_caller().client.ip,
    )


@pages.route("/sign-in", methods=["GET", "POST"])
async def sign_in() -> Any:
    """The page for signing in."""
    return await sign_in_page()


@pages.get("/sign-in/oidc")
async def sign_in_with_provider() -> Any:
    """The way to the identity provider."""
    return await begin()


@pages.get("/sign-in/oidc/callback")
async def back_from_provider() -> Any:
    """Where the identity provider sends the browser back to."""
    return await finish()


@pages.get("/history")
async def history() -> Any:
    """What runs and what was sent before, by state, date and text."""
    return await history_page(language())


@pages.get("/submissions")
async def submissions() -> Any:
    """Where the history was until there was a page of its own: old links lead on."""
    before = query.text("before")
    return redirect(url_for("pages.history", before=before), 308)


@pages.get("/submissions/<submission_id>")
async def submission(submission_id: str) -> str:
    """One submission in its current state; the page follows it from there.

    Raises:
        NotFound: there is none.
    """
    shape, cursor = await services().views.submission(current_caller(), SubmissionId(submission_id))
    return await render_template(
        "submission.html",
        page_data={"submission": shape, "cursor": cursor, **rules_for_files()},
        submission=shape,
        accept=",".join(services().settings.accept),
    )


def rules_for_files() -> dict[str, Any]:
    """What a page checks before it sends a file; the server checks the same.

    `accept_extensions` are the extensions that the media types in `accept` stand for: a file with one of them is
    accepted, whatever its browser declares it.
    """
    settings = services().settings
    return {
        "limits": {
            "max_file_size": settings.max_file_size,
            "max_files": settings.max_files,
            "max_submission_size": settings.max_submission_size,
        },
        "accept": settings.accept,
        "accept_extensions": file_types.extensions(settings.accept),
    }


@pages.get("/jobs/<job_id>")
async def job(job_id: str) -> str:
    """One job in its current state, with its attempts; the page follows it from there.

    Raises:
        NotFound: there is none.
    """
    found = await services().views.job_with_file(current_caller(), JobId(job_id))
    newest = await services().config.newest(current_caller()) if may(Action.READ_CONFIG) else None
    started = found.job.started_at
    ended = [(attempt, attempt.settled_at) for attempt in found.job.attempts]
    return await render_template(
        "job.html",
        page_data={
            "cursor": found.cursor,
            "job": found.shape,
            "name": found.file.path or found.file.name,
            "is_kept": found.file.removed_at is None,
            "newest": newest and newest.sha256,
        },
        job=found.shape,
        waited=None if started is None else (started - found.job.queued_at).total_seconds(),
        took={attempt.number: (end - attempt.started_at).total_seconds() for attempt, end in ended if end is not None},
        file=found.file,
        removed_at=time_text(found.file.removed_at),
        submission=submission_json(found.submission),
        newest=newest and newest.sha256,
    )


@pages.get("/config")
async def config() -> str:
    """The script's config: with an editor for who may change it, read-only for others and without scripts.

    `job` names the job that somebody wants to fix. After a save, the page offers to retry what failed in its
    submission.
    """
    cursor = await services().topics.newest(current_caller())  # read before the text, so that no later save is missed
    config_text, revision = await services().config.read(current_caller())
    came_from = await _origin(query.text("job"))
    return await render_template(
        "config.html" if may(Action.CHANGE_CONFIG) else "config-view.html",
        page_data={
            "cursor": cursor,
            "has_schema": await _has_schema(),
            "came_from": came_from,
            "sees_authors": may(Action.SEE_AUTHORS),
        },
        came_from=came_from,
        text=config_text.decode(errors="replace").removeprefix("\ufeff"),
        revision=revision,
        config_path=services().settings.config.absolute(),
    )


@pages.get("/account")
async def account() -> str:
    """The caller's own account: password, tokens, sessions.

    Raises:
        NotFound: the caller has none, as on a server without sign-in.
    """
    _require_account()
    is_admin = current_caller().role is Role.ADMIN
    scopes = [scope.value for scope in Scope if is_admin or scope not in (Scope.CONFIG, Scope.ADMIN)]
    quota = await services().quotas.own(current_caller())
    return await render_template("account.html", scopes=scopes, use=_use(quota))


@pages.get("/people")
async def people() -> str:
    """Every account, for admins.

    Raises:
        NotFound: nobody has to sign in here.
    """
    _require_account()
    roles = [role.value for role in Role]
    return await render_template("people.html", page_data={"me": current_caller().account}, roles=roles)


def _use(quota: Quota) -> list[Markup]:
    """What somebody has, and may have, in sentences."""
    limits, usage = quota.limits, quota.usage
    used, limit = size_text(usage.storage), limits.storage
    kept = "account.kept" if limit is None else "account.kept_of"
    counted = (
        ("submissions_a_day", usage.submissions_a_day, limits.submissions_a_day),
        ("open_submissions", usage.open_submissions, limits.open_submissions),
        ("running", usage.running, limits.running),
    )
    return [
        message(kept, used=used, limit=None if limit is None else size_text(limit)),
        *(message(f"account.{name}_of", used=has, limit=most) for name, has, most in counted if most is not None),
    ]


@pages.get("/audit")
async def audit() -> str:
    """Who did what, and who was refused, for admins."""
    cursor = await services().topics.newest(current_caller())  # the page reads its list later
    return await render_template("audit.html", page_data={"cursor": cursor}, kinds=["", *AuditKind])


def _require_account() -> None:
    """Raise NotFound for a caller without an account, as everybody is on a server without sign-in."""
    if current_caller().account is None:
        raise NotFound("There is nothing at this address.")


@pages.get("/links")
async def links() -> str:
    """The links that the caller has made, and a form for new ones."""
    return await render_template("links.html")


@pages.get("/styleguide")
async def styleguide() -> str:
    """Every component in each of its states, for who changes them.

    Raises:
        NotFound: this is not development (`--reload`).
    """
    if not services().settings.reload:
        raise NotFound("There is nothing at this address.")
    return await render_template("styleguide.html")


async def _origin(job_id: str | None) -> dict[str, Any] | None:
    """The job from which somebody came to the config, as that page shows it; None without one."""
    if job_id is None:
        return None
    try:
        found = await services().views.job_with_file(current_caller(), JobId(job_id))
    except NotFound:
        return None
    return {
        "job_id": found.job.id,
        "submission_id": found.job.submission_id,
        "name": found.file.path or found.file.name,
        "is_failed": found.job.state is JobState.FAILED,
        "error": found.shape["error"],
    }


async def _has_schema() -> bool:
    """Whether there is a usable schema. The page then does not ask in vain: browsers log every 404 as an error."""
    try:
        return await services().config.schema(current_caller()) is not None
    except (SchemaUnusable, Unavailable):
        return False


@pages.app_context_processor
def everywhere() -> dict[str, Any]:
    """Values for every page: Dropmill's version, how the config file differs from the newest revision, what fails now.

    The difference quotes the config, and is for those only who may see how the server is set up. `me` is the account
    that signed in; `is_exposed` says that nobody has to on a server that others can reach. `link_base` is the prefix of
    the link below which the page is, None elsewhere: whoever is there should be led nowhere else.
    """
    found: Services | None = current_app.extensions.get(EXTENSION)
    caller = caller_if_known()
    problem = found.config.problem(current_caller()) if found is not None and may(Action.SEE_SERVER) else None
    return {
        "version": __version__,
        "config_problem": None if problem is None else problem.sentence,
        "me": None if caller is None or caller.account is None else _me(caller),
        "is_exposed": found is not None and found.settings.auth == "off" and not found.settings.is_loopback_only,
        "link_base": None if (link := link_path(request)) is None else link.base,
        "degraded": "" if found is None else ", ".join(label("part", name) for name in found.health.degraded),
    }


@pages.app_template_global("may")
def may(action: str) -> bool:
    """Whether the person may do something, an `Action`; nobody may who has not signed in, or was refused before."""
    found: Services | None = current_app.extensions.get(EXTENSION)
    caller = caller_if_known()
    return found is not None and caller is not None and found.policy.may(caller, Action(action))


def _me(caller: Caller) -> dict[str, Any]:
    """The account that signed in, as pages show it."""
    has_session = caller.authentication is Authentication.SESSION
    found = services()
    provider = None
    if found.oidc is not None:  # for who has no password here, and must sign in again; any page of that account will do
        provider = {"name": found.oidc.name, "url": f"{found.settings.public_url}/sign-in/oidc?next=/account"}
    return {
        "name": caller.account,
        "role": caller.role.value,
        "has_session": has_session,
        "has_password": has_session and caller.has_password,
        "provider": provider,
    }


@pages.app_template_global("language")
def language() -> str:
    """The language of this page: chosen by the person, else by the browser."""
    accepted = request.accept_languages.best_match(messages.LANGUAGES)
    return messages.choose(request.cookies.get(language_cookie()), accepted)


@pages.app_template_global("language_cookie")
def language_cookie() -> str:
    """The name of the cookie that holds the language which the person has chosen. The page sets it."""
    return prefixed(messages.COOKIE, request, services().settings.base_path)


@pages.app_template_global("page_files")
def page_files(name: str) -> PageFiles:
    """The scripts and styles of a page, named after its style sheet in `static/css/pages`."""
    return files_of(current_app).page(name)


@pages.app_template_global("t")
def message(name: str, /, **values: object) -> Markup:
    """A message of the catalogue in the page's language.

    Raises:
        KeyError: there is no such message, or it needs another value.
    """
    return messages.translate(language(), name, **values)


@pages.app_template_global("label")
def label(kind: str, name: str) -> str:
    """The label of a `state`, an `event` or a `part`; an unknown one is its own label."""
    return message(f"core.{kind}.{name}") if messages.has(f"core.{kind}.{name}") else name


@pages.app_template_global("problem_words")
def problem_words(code: str, extra: Mapping[str, Any]) -> str | None:
    """What an error means, in the page's language; None for codes that mean several things, or without its members.

    As `static/js/core/problem.js` says it.
    """
    values: dict[str, Any] = {}
    if "file" in extra:
        values["file"] = visible_text(extra["file"])
    if "accept" in extra:
        values["accept"] = ", ".join(extra["accept"])
    if "limit" in extra:
        values |= {"limit": size_text(extra["limit"]), "n": extra["limit"]}
    if "used" in extra:
        values["used"] = size_text(extra["used"])
    if "retry_after" in extra and code != "too_many_submissions":  # its sentences name the limit
        values["n"] = extra["retry_after"]
    if messages.has(f"problem.{code}.{extra.get('reason')}"):
        code = f"{code}.{extra['reason']}"
    try:
        return message(f"problem.{code}", **values)
    except KeyError:
        return None


@pages.app_template_global("embedded_messages")
def embedded_messages(areas: Sequence[str]) -> Mapping[str, object]:
    """The messages that the scripts of a page need."""
    return messages.embedded(language(), areas)


@pages.app_template_filter("size")
def size_text(size: int | None) -> str:
    """A size in bytes as people read it in the page's language; "" for None."""
    if size is None:
        return ""
    if size < 1024:
        return message("core.bytes", n=size)
    number, _, unit = text.size_text(size).partition(" ")
    return f"{messages.number(language(), float(number))} {unit}"


_FAMILIES = {
    "audio/*": "upload.limit.audio",
    "image/*": "upload.limit.images",
    "text/*": "upload.limit.text",
    "video/*": "upload.limit.video",
}


@pages.app_template_filter("shown_counts")
def _shown_counts(counts: CountsJson, aborted_as: AbortedJson) -> Mapping[str, int]:
    """The counts of a submission as people count, like `static/js/core/counts.js`."""
    shown: dict[str, Any] = dict(counts)
    shown["aborted"] -= aborted_as["cancelled"] + aborted_as["replaced"]
    shown["cancelled"] += aborted_as["cancelled"]
    return shown


@pages.app_template_filter("type_words")
def type_words(accept: str) -> str:
    """The types in a list such as `.csv,image/*,application/pdf` as people call them: `CSV, images, PDF`."""
    return ", ".join(dict.fromkeys(word for entry in accept.split(",") for word in _type_words(entry)))


def _type_words(entry: str) -> Sequence[str]:
    if entry in _FAMILIES:
        return [message(_FAMILIES[entry])]
    endings = [entry] if entry.startswith(".") else file_types.extensions([entry])
    subtype = f".{entry.partition('/')[2]}"
    return [ending[1:].upper() for ending in ([subtype] if subtype in endings else endings)] or [entry]


@pages.app_template_filter("moment")
def moment_text(time: str) -> str:
    """A time of the API (RFC 3339, UTC) for people; scripts replace it by local time."""
    return time[:19].replace("T", " ") + " UTC"


@pages.app_template_filter("visible")
def visible_text(foreign: str) -> str:
    """A client's text in which control characters, and those that reorder or hide text, are visible."""
    return "".join(_visible_character(character) for character in foreign)


@pages.app_template_filter("visible_lines")
def visible_lines(foreign: str) -> str:
    """Somebody's text of several lines: as `visible`, and its line ends stay."""
    return "\n".join(map(visible_text, foreign.splitlines()))


def _visible_character(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp"):
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"
