import re
from pathlib import Path

import pytest
from markupsafe import Markup

from dropmill.model.events import ChangeOfAccount, EventName, RefusalReason, SignInMethod, SignOutReason
from dropmill.model.jobs import AttemptState, JobState
from dropmill.model.uploads import AbortCause, UploadState
from dropmill.web import messages

ROOT = Path(__file__).parents[2]
CATALOGUE = Path(messages.__file__).parent / "catalogue"
AREAS = sorted(path.stem for path in (CATALOGUE / "en").glob("*.json"))


def texts_of(message: messages.Message) -> list[str]:
    """Every text of a message, whatever number chooses it."""
    if isinstance(message, str):
        return [message]
    return [text for form in message.values() for text in texts_of(form)]


def values_of(message: messages.Message) -> set[str]:
    """The names of the values that stand in a message."""
    return {name for text in texts_of(message) for name in re.findall(r"\{(\w+)\}", text)}


def test_every_event_and_every_state_has_a_label_and_no_label_is_for_nothing() -> None:
    keys = messages.area("en", "core")
    events = {key.removeprefix("event.") for key in keys if key.startswith("event.")}
    causes = {key.removeprefix("cause.") for key in keys if key.startswith("cause.")}
    assert causes == {*AbortCause} - {AbortCause.CANCELLED}  # which is a state to people
    states = {key.removeprefix("state.") for key in keys if key.startswith("state.")}
    assert events == {name.value for name in EventName}
    of_the_page = {"paused", "retrying", "refused", "broken", "given_up", "arrived"}
    assert states == {*UploadState, *JobState, *AttemptState, "open", "processing", "settled"} | of_the_page


def test_the_audit_has_words_for_all_that_events_say_and_for_nothing_else() -> None:
    keys = messages.area("en", "audit")
    for kind, words in {
        "signed_in": SignInMethod,
        "signed_out": SignOutReason,
        "refused": RefusalReason,
        "changed": ChangeOfAccount,
    }.items():
        assert {key.partition(".")[2] for key in keys if key.startswith(f"{kind}.")} == {*words}, kind


@pytest.mark.parametrize("name", AREAS)
@pytest.mark.parametrize("language", messages.LANGUAGES[1:])
def test_each_language_has_the_messages_of_english_with_the_same_values(language: str, name: str) -> None:
    english, other = messages.area("en", name), messages.area(language, name)
    assert list(other) == list(english)
    assert {key: values_of(message) for key, message in other.items()} == {
        key: values_of(message) for key, message in english.items()
    }


def test_every_message_that_code_asks_for_is_there_and_each_is_asked_for() -> None:
    """A name that is put together, such as `core.state.${state}`, asks for all that begin like it."""
    sources = [
        *(ROOT / "static" / "js").rglob("*.js"),
        *(ROOT / "templates").glob("*.html"),
        ROOT / "src/dropmill/web/pages.py",
    ]
    code = "\n".join(path.read_text() for path in sources)
    names = {f"{name}.{key}" for name in AREAS for key in messages.area("en", name)}
    asked = set(re.findall(rf"""["'`]((?:{"|".join(AREAS)})\.[\w.]+)["'`]""", code))
    asked -= {name.value for name in EventName} | {f"{name}.html" for name in AREAS}  # named like areas, too
    asked -= {"config.schema.json"}  # the schema beside the config
    begun = set(re.findall(rf"""[`"'](?:{"|".join(AREAS)})\.[\w.]*(?=[{{$])""", code))
    begun = {start.lstrip("`\"'") for start in begun} | {name for name in asked if name[-1] == "."}
    asked -= begun
    assert asked - names == set()
    unused = {name for name in names - asked if not any(name.startswith(start) for start in begun if start[-1] == ".")}
    assert unused == set()


def test_values_are_escaped_unless_they_are_html_and_numbers_have_the_separators_of_the_language() -> None:
    shown = messages.translate("en", "core.config_on_disk", config=Markup("<a>config</a>"), problem="<b>")
    assert shown.startswith("The <a>config</a> file")
    assert "&lt;b&gt;" in shown
    assert messages.translate("en", "core.files", n=1) == "1 file"
    assert messages.translate("en", "core.files", n=10_000) == "10,000 files"
    assert messages.translate("de", "core.files", n=10_000) == "10.000 Dateien"
    assert messages.translate("en", "core.queue.position", n=21) == "21st in the queue"
    assert messages.translate("de", "core.queue.position", n=21) == "an 21. Stelle der Warteschlange"


def test_an_unknown_message_or_a_missing_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        messages.translate("en", "core.surprising")
    with pytest.raises(KeyError):
        messages.translate("en", "core.files")


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        (None, None, "en"),
        (None, "de", "de"),
        ("en", "de", "en"),
        ("de", None, "de"),
        ("xx", "de", "de"),
        ("../en", None, "en"),
    ],
)
def test_the_person_chooses_the_language_else_the_browser(
    chosen: str | None, accepted: str | None, language: str
) -> None:
    assert messages.choose(chosen, accepted) == language
