"""What the page `/` says before any script runs: so does it to a person without JavaScript."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from markupsafe import Markup
from tests.support.services import services_of

from dropmill.app import create_app
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.settings import Settings
from dropmill.web.services import EXTENSION


class Open(Protocol):
    """Opens `/` of a server with some settings."""

    async def __call__(self, language: str = "en", **settings: Any) -> str: ...


@pytest.fixture
def open_page(tmp_path: Path, ledger: SqliteLedger, bus: LocalBus) -> Open:
    """See `Open`."""

    async def open_page(language: str = "en", **settings: Any) -> str:
        app = create_app(Settings(data=tmp_path, command=("true",), **settings), owns_sockets=True)
        found = services_of(tmp_path, ledger, bus)
        found.settings = replace(found.settings, **settings)
        app.extensions[EXTENSION] = found
        answer = await app.test_client().get("/", headers={"Accept-Language": language})
        assert answer.status_code == 200
        return await answer.get_data(as_text=True)

    return open_page


def limits(html: str) -> list[str]:
    found = re.search(r'<ul class="zone-limits".*?</ul>', html, re.DOTALL)
    assert found is not None
    return [str(Markup(item).unescape()) for item in re.findall(r"<li>(.*?)</li>", found[0])]


async def test_without_limits_the_page_promises_types_alone(open_page: Open) -> None:
    html = await open_page()
    assert limits(html) == ["Files of any type"]
    assert "Drop files or folders here" in html
    assert "Any size" not in html


async def test_every_limit_is_said_in_words(open_page: Open) -> None:
    settings: dict[str, Any] = {"max_file_size": 2 << 30, "max_files": 1000, "max_submission_size": 10 << 30}
    assert limits(await open_page(**settings)) == [
        "Files of any type",
        "up to 2 GiB each",
        "up to 1,000 files at a time",
        "up to 10 GiB together",
    ]
    assert limits(await open_page("de", **settings))[2:] == [
        "bis zu 1.000 Dateien auf einmal",
        "zusammen bis zu 10 GiB",
    ]


@pytest.mark.parametrize(
    ("accept", "words"),
    [
        ((".csv", ".tar.gz"), "CSV, TAR.GZ"),
        (("image/*", "video/*", "audio/*", "text/*"), "images, videos, sound, text files"),
        (("image/jpeg", ".png", "image/svg+xml"), "JPEG, PNG, SVG"),
        (("application/pdf", ".pdf", "audio/mpeg"), "PDF, MP3"),
        (("application/x-unheard-of", "font/*"), "application/x-unheard-of, font/*"),
    ],
)
async def test_accepted_types_are_called_as_people_call_them(
    open_page: Open, accept: tuple[str, ...], words: str
) -> None:
    html = await open_page(accept=accept)
    assert limits(html) == [words]
    assert f'accept="{",".join(accept)}"' in html


async def test_one_file_at_a_time_is_one_in_the_file_chooser(open_page: Open) -> None:
    html = await open_page(max_files=1)
    assert limits(html)[1] == "1 file at a time"
    assert re.search(r'<input class="file-input"[^>]* multiple', html) is None
    assert re.search(r'<input class="file-input"[^>]* multiple', await open_page()) is not None


async def test_the_author_of_the_script_says_what_it_is_for(open_page: Open) -> None:
    html = await open_page(title="Make <thumbnails>", intro="JPEG & PNG.")
    assert "<h1>Make &lt;thumbnails&gt;</h1>" in html
    assert "JPEG &amp; PNG." in html
    assert "<code>true</code>" in html


async def test_no_visitor_is_shown_where_the_config_is_on_the_server(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "secret-place" / "config.yaml"
    assert "secret-place" not in await open_page(config=path)
