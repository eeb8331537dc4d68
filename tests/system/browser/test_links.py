"""Links: somebody without an account sends files, or looks at one submission; operators make and revoke links."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Locator, Page, Request, expect
from tests.support.accessibility import LOOKS, axe_script, require_accessible
from tests.support.page_actions import SETTLED, press_submit, row, slow_down, sparse, submit, text_file, verdict
from tests.support.preloaded import DROPMILL
from tests.support.server import Server
from tests.support.waiting import wait_until

Open = Callable[..., Page]
MIB = 1024 * 1024
PASSWORD = "correct horse battery"
ARRIVED = "It has arrived; you may close this page."
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
}

# Waits for the file `go` when the name asks for it, so that a test decides when it ends.
PROCESSOR = """
import time
from pathlib import Path

GO = Path(__file__).with_name("go")


def process(path, file, results):
    print("picked up", file.name, flush=True)
    if "wait" in file.name:
        while not GO.exists():
            time.sleep(0.02)
    if "broken" in file.name:
        raise ValueError("cannot read it")
    (results / f"{file.name}.out").write_bytes(Path(path).read_bytes().upper())
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which people have to sign in: `ada` is an admin, `bob` an operator, `eve` a viewer."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "obedient.py").write_text(PROCESSOR)
    flags = ("--processor", "obedient:process", "--concurrency", "2", "--auth", "required")
    server = Server(folder, *flags, "--max-file-size", "64MiB")
    try:
        server.start()
        for name, role in (("ada", "admin"), ("bob", "operator"), ("eve", "viewer")):
            command(server, "account", "add", name, "--role", role, "--password-stdin")
        yield server
    finally:
        server.end()


def command(server: Server, *words: str) -> str:
    """Run a command of Dropmill on the server's data folder; returns what it prints."""
    done = subprocess.run(
        [*DROPMILL, *words, "--data", str(server.data)],
        input=f"{PASSWORD}\n",
        text=True,
        check=True,
        cwd=server.folder,
        capture_output=True,
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def ada(site: Server) -> Iterator[httpx.Client]:
    """What ada's programs do."""
    token = command(site, "token", "create", "--account", "ada")
    with httpx.Client(
        base_url=f"{site.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, trust_env=False
    ) as client:
        yield client


@pytest.fixture
def make_link(ada: httpx.Client) -> Callable[..., Any]:
    """Makes links of ada's: what the server answers, with `path`, the part of the address behind the host."""

    def make(**fields: Any) -> Any:
        answer = ada.post("/links", json={"label": "Scans for the archive", **fields})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        address = urlsplit(made["url"])
        return {**made, "path": f"{address.path}#{address.fragment}", "secret": address.fragment, "base": address.path}

    return make


def settled(ada: httpx.Client, submission_id: str) -> Any:
    """A submission once it has settled."""

    def found() -> Any:
        shape = ada.get(f"/submissions/{submission_id}").json()
        return shape if shape["state"] == "settled" else None

    return wait_until(found)


def sign_in(page: Page, name: str = "ada", path: str = "/") -> None:
    """Sign in, and be where one wanted to go."""
    page.goto(f"/sign-in?next={path}")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/sign-in" not in url)


def ways_out(page: Page, base: str) -> list[str]:
    """Where the page leads, besides to itself, its skip link, and what there is below the link."""
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('[href], [action]')].filter((one) => "
        "!['LINK'].includes(one.tagName)).map((one) => one.getAttribute('href') ?? one.getAttribute('action'))"
    )
    known = re.compile(f"#|{base}$|{base}/(submissions|api/v1)[/?]")
    return [address for address in found if not known.match(address)]


def folder_of(path: Path) -> Path:
    """A folder with three files, one of them deeper."""
    (path / "scans" / "older").mkdir(parents=True)
    for name in ("page 1.txt", "page 2.txt", "older/page 3.txt"):
        text_file(path / "scans" / name, f"text of {name}\n")
    return path / "scans"


def enter(open_page: Open, made: Any, **options: Any) -> Page:
    """A page of somebody who has followed a link."""
    page = open_page(made["path"], **options)
    expect_ready(page)
    return page


def expect_ready(page: Page) -> None:
    """Wait until a page takes files: entering a link loads another page, and only its scripts notice what is chosen."""
    expect(page.locator("[data-part=connection]")).to_have_attribute("data-connection", "live")
    expect(page.locator("#files")).to_have_count(1)


# --- sending ---------------------------------------------------------------------------------------------------------


def test_a_phone_hands_in_a_folder_the_script_runs_and_the_owner_sees_it_live(
    open_page: Open, site: Server, ada: httpx.Client, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_link(text="Please send everything.\nThank you!")
    owner = open_page("/sign-in")
    sign_in(owner, path="/history")
    expect(owner.locator("[data-part=connection]")).to_contain_text("live")

    phone = enter(open_page, made, **PHONE)
    expect(phone.get_by_role("heading", name="Scans for the archive")).to_be_visible()
    expect(phone.get_by_text("Thank you!")).to_be_visible()
    expect(phone.get_by_role("navigation")).to_have_count(0)
    phone.set_input_files("#folder", folder_of(tmp_path))
    press_submit(phone, 3)
    assert phone.url.startswith(f"{site.url}{made['base']}/submissions/")
    expect(verdict(phone)).to_have_text("All 3 files have arrived")
    expect(phone.get_by_text(ARRIVED)).to_be_visible()
    expect(phone.get_by_text("Scans for the archive").first).to_be_visible()
    assert ways_out(phone, made["base"]) == []

    owner.get_by_role("link", name=re.compile("page")).click()
    expect(verdict(owner)).to_have_text("Done: 3 succeeded")
    expect(row(owner, "page 3.txt")).to_contain_text("older/")
    expect(owner.get_by_text("Came by the link Scans for the archive.")).to_be_visible()
    shape = ada.get(f"/submissions/{owner.url.rpartition('/')[2]}").json()
    assert sorted(file["path"] for file in shape["files"]) == [
        "scans/older/page 3.txt",
        "scans/page 1.txt",
        "scans/page 2.txt",
    ]


def test_the_secret_is_posted_once_and_nowhere_else(
    open_page: Open, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_link()
    page = open_page("about:blank")
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request))
    page.goto(made["path"])
    expect_ready(page)
    submit(page, text_file(tmp_path / "a.txt"))
    expect(page.get_by_text(ARRIVED)).to_be_visible()
    secret = made["secret"]
    assert [one.post_data for one in sent if secret in (one.post_data or "")] == [f'{{"secret":"{secret}"}}']
    assert [one.url for one in sent if secret in one.url.partition("#")[0]] == []
    assert [one.url for one in sent if secret in str(one.headers)] == []
    assert secret not in page.evaluate(
        "JSON.stringify([location.href, document.title, document.referrer, document.cookie, {...localStorage}, "
        "{...sessionStorage}, document.documentElement.outerHTML])"
    )
    page.go_back()
    expect(page.locator("#files")).to_have_count(1)
    assert page.url.endswith(made["base"])


def test_a_second_visit_shows_what_this_browser_has_sent_and_nothing_of_others(
    open_page: Open, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_link()
    one, other = enter(open_page, made), enter(open_page, made)
    sent = submit(one, text_file(tmp_path / "one.txt"))
    expect(one.get_by_text(ARRIVED)).to_be_visible()
    submit(other, text_file(tmp_path / "other.txt"))
    expect(other.get_by_text(ARRIVED)).to_be_visible()

    one.goto(made["path"])
    assert made["secret"] not in one.url
    before = one.get_by_role("region", name="Sent from this browser")
    expect(before.get_by_role("listitem")).to_have_count(1)
    expect(before.get_by_role("listitem")).to_contain_text("1 file has arrived")
    before.get_by_role("link", name="one.txt").click()
    expect(verdict(one)).to_have_text("The file has arrived")
    expect(one.get_by_text(ARRIVED)).to_be_visible()
    one.get_by_role("link", name="Send more files").click()
    expect(one.locator("#files")).to_have_count(1)

    answer = other.goto(f"{made['base']}/submissions/{sent}")
    assert answer is not None
    assert answer.status == 404
    assert ways_out(other, made["base"]) == []


def test_a_reload_in_the_middle_of_an_upload_goes_on_where_it_broke_off(
    open_page: Open, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    page = enter(open_page, make_link())
    large = sparse(tmp_path / "large.bin", 24 * MIB)
    slow_down(page, 4 * MIB)
    submit(page, large)
    expect(row(page, "large.bin")).to_contain_text("%")
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    slow_down(page, -1)
    expect(page.get_by_role("button", name="Pick files again")).to_be_visible()  # the row's button works from then on
    pick = page.get_by_role("button", name="Pick again: large.bin")
    with page.expect_file_chooser() as chooser:
        pick.click()
    chooser.value.set_files(large)
    expect(verdict(page)).to_have_text("The file has arrived")
    expect(page.get_by_text(ARRIVED)).to_be_visible()


def test_a_link_that_shows_results_offers_them_while_and_after_the_script_runs(
    open_page: Open, site: Server, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    page = enter(open_page, make_link(shows_results=True))
    submit(page, text_file(tmp_path / "wait.txt"), text_file(tmp_path / "broken.txt"))
    expect(row(page, "wait.txt")).to_contain_text("Processing")
    expect(page.get_by_text("It has arrived; you may close this page. To see what becomes")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^(Cancel|Retry)"))).to_have_count(0)
    (site.folder / "go").touch()
    expect(verdict(page)).to_have_text(SETTLED)
    expect(row(page, "broken.txt")).to_contain_text("cannot read it")
    expect(page.get_by_text(ARRIVED, exact=True)).to_be_visible()
    expect(row(page, "wait.txt")).to_contain_text("wait.txt.out · 10 bytes")
    with page.expect_download() as download:
        page.get_by_role("link", name="Result of wait.txt").click()
    assert download.value.path().read_text() == "SOME TEXT\n"
    row(page, "broken.txt").get_by_role("button", name="Output").click()
    expect(page.get_by_text("picked up broken.txt")).to_be_visible()


def test_a_link_without_results_shows_nothing_of_the_script(
    open_page: Open, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    page = enter(open_page, make_link())
    submit(page, text_file(tmp_path / "broken.txt"))
    expect(row(page, "broken.txt")).to_contain_text("Arrived")
    expect(page.get_by_role("button", name=re.compile("^(Output|Results?)"))).to_have_count(0)
    page.reload()
    expect(verdict(page)).to_have_text("The file has arrived")
    expect(row(page, "broken.txt")).to_contain_text("Arrived")


def test_a_passphrase_and_a_name_are_asked_for_and_the_owner_sees_the_name(
    open_page: Open, ada: httpx.Client, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_link(passphrase="open sesame", asks_name=True)
    page = open_page(made["path"])
    passphrase = page.get_by_label("Passphrase")
    expect(passphrase).to_be_focused()
    passphrase.fill("open says me")
    page.get_by_label("Your name").fill("Grace <b>Hopper</b>")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("passphrase")
    expect(page.get_by_label("Your name")).to_have_value("Grace <b>Hopper</b>")
    passphrase.fill("open sesame")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Sender: Grace <b>Hopper</b>").filter(visible=True)).to_be_visible()
    expect_ready(page)
    sent = submit(page, text_file(tmp_path / "a.txt"))
    expect(page.get_by_text(ARRIVED)).to_be_visible()
    owner = open_page("/sign-in")
    sign_in(owner, path=f"/submissions/{sent}")
    expect(owner.get_by_text("the sender said to be Grace <b>Hopper</b>.")).to_be_visible()


def test_limits_are_said_before_and_a_link_that_is_used_up_says_so(
    open_page: Open, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_link(max_files=2, max_size=2 * MIB, max_submissions=1)
    page = enter(open_page, made)
    for words in ("room for 2 more files", "room for 2 MiB more", "can be used once more", "up to 64 MiB each"):
        expect(page.get_by_text(words)).to_be_visible()
    page.set_input_files("#files", [sparse(tmp_path / "large.bin", 3 * MIB), text_file(tmp_path / "small.txt")])
    expect(page.get_by_text("Too much: at most 2 MiB together")).to_be_visible()
    press_submit(page, 1)
    expect(page.get_by_text(ARRIVED)).to_be_visible()
    page.goto(made["base"])
    expect(page.get_by_text("Everything that this link allows has been sent.")).to_be_visible()
    expect(page.locator("#files")).to_have_count(0)
    expect(page.get_by_role("region", name="Sent from this browser").get_by_role("listitem")).to_have_count(1)


def test_two_senders_cannot_both_get_the_last_place(
    open_page: Open, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_link(max_submissions=1)
    one, other = enter(open_page, made), enter(open_page, made)
    submit(one, text_file(tmp_path / "one.txt"))
    expect(one.get_by_text(ARRIVED)).to_be_visible()
    other.set_input_files("#files", [text_file(tmp_path / "other.txt")])
    other.get_by_role("button", name="Submit 1 file").click()
    refusal = other.get_by_role("alert").filter(visible=True)
    expect(refusal).to_contain_text("Nothing was sent.")
    expect(refusal).to_contain_text("this link")


def test_without_scripts_a_form_sends_and_thanks(
    open_page: Open, ada: httpx.Client, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_link(passphrase="open sesame", asks_name=True)
    plain = urlsplit(made["url_without_script"]).path
    page = open_page(plain, java_script_enabled=False)
    page.get_by_label("Passphrase").fill("wrong one")
    page.get_by_label("Your name").fill("Grace")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("passphrase")
    page.get_by_label("Passphrase").fill("open sesame")
    page.get_by_label("Your name").fill("Grace")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="Scans for the archive")).to_be_visible()
    assert made["secret"] not in page.url
    page.set_input_files("#files", [text_file(tmp_path / "a.txt"), text_file(tmp_path / "b.txt")])
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile("/submissions/.+"))
    expect(page.get_by_text(ARRIVED)).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="a.txt")).to_contain_text("Arrived")
    page.reload()
    expect(page.get_by_text(ARRIVED)).to_be_visible()
    assert ways_out(page, made["base"]) == []
    page.get_by_role("link", name="Send more files").click()
    expect(page.get_by_role("region", name="Sent from this browser")).to_contain_text("2 files have arrived")
    assert settled(ada, ada.get("/submissions").json()["items"][0]["id"])["counts"]["succeeded"] == 2


def test_without_scripts_the_short_address_says_how_to_go_on(open_page: Open, make_link: Callable[..., Any]) -> None:
    page = open_page(make_link()["path"], java_script_enabled=False)
    expect(page.get_by_text("Put / in place of #")).to_be_visible()


# --- links that do not work ------------------------------------------------------------------------------------------


def test_an_address_that_is_cut_wrong_unknown_or_pasted_again(open_page: Open, make_link: Callable[..., Any]) -> None:
    made = make_link()
    page = open_page(made["base"])
    expect(page.get_by_text("This address is not complete")).to_be_visible()
    page.goto(f"{made['path']}x")
    expect(page.get_by_role("heading", name="This link does not work")).to_be_visible()
    assert "#" not in page.url
    page.goto(made["path"])  # only what is behind # differs: the page stays
    expect(page.locator("#files")).to_have_count(1)
    answer = page.goto(f"/r/{'0' * 32}#secret")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_role("heading", name="This link does not work")).to_be_visible()
    assert ways_out(page, "/r/x") == []


def test_a_link_that_is_revoked_in_the_middle_of_an_upload(
    open_page: Open, ada: httpx.Client, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_link()
    page = enter(open_page, made, **PHONE)
    slow_down(page, 2 * MIB)
    sent = submit(page, text_file(tmp_path / "small.txt"), sparse(tmp_path / "large.bin", 48 * MIB))
    expect(row(page, "small.txt")).to_contain_text("Arrived")
    expect(row(page, "large.bin")).to_contain_text("%")
    assert ada.delete(f"/links/{made['id']}").status_code == 204
    expect(page.get_by_text("This link has ended: it expired or was revoked.")).to_be_visible()
    expect(page.get_by_text(ARRIVED)).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("^(Try again|Resume|Stop)"))).to_have_count(0)
    files = {file["name"]: file for file in ada.get(f"/submissions/{sent}").json()["files"]}
    assert files["small.txt"]["job"]["state"] == "succeeded"
    assert files["large.bin"]["state"] != "stored"
    assert files["large.bin"]["received"] < 48 * MIB
    slow_down(page, -1)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(made["base"])
    expect(page.get_by_role("heading", name="This link does not work")).to_be_visible()


# --- result links ----------------------------------------------------------------------------------------------------


def test_a_result_link_shows_one_submission_live_without_its_sender_and_ends(
    open_page: Open, site: Server, ada: httpx.Client, make_link: Callable[..., Any], tmp_path: Path
) -> None:
    sent = ada.post("/submissions", files=[("file", ("wait.txt", b"one")), ("file", ("b.txt", b"two"))]).json()
    made = make_link(kind="result", submission_id=sent["id"], label="What came out")
    page = open_page(made["path"])
    expect(page.get_by_text("What came out")).to_be_visible()
    expect(row(page, "wait.txt")).to_contain_text("Processing")
    assert page.url == f"{site.url}{made['base']}"
    assert "127.0.0.1" not in page.locator("main").inner_text()
    for name in ("Cancel", "Retry", "Share", "Drop", "Pick"):
        expect(page.get_by_role("button", name=re.compile(f"^{name}"))).to_have_count(0)
    assert ways_out(page, made["base"]) == []
    (site.folder / "go").touch()
    expect(verdict(page)).to_have_text("Done: 2 succeeded")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download results").click()
    assert download.value.suggested_filename.endswith(".zip")
    assert ada.delete(f"/links/{made['id']}").status_code == 204
    expect(page.get_by_text("The page shows what it last knew.")).to_be_visible()
    answer = page.reload()
    assert answer is not None
    assert answer.status == 404


def test_a_result_link_that_has_expired_is_not_found(
    open_page: Open, ada: httpx.Client, make_link: Callable[..., Any]
) -> None:
    sent = ada.post("/submissions", files=[("file", ("a.txt", b"one"))]).json()
    made = make_link(kind="result", submission_id=sent["id"], expires_in=8)
    page = open_page(made["path"])
    expect(page.get_by_text("The page shows what it last knew.")).to_be_visible()  # the server ends its socket then
    answer = page.goto(made["path"])
    answer = page.reload() if answer is None else answer
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_role("heading", name="This link does not work")).to_be_visible()


# --- making and revoking ---------------------------------------------------------------------------------------------


@pytest.fixture
def operator(open_page: Open) -> Page:
    """A page of bob's, who is an operator."""
    page = open_page("/sign-in")
    sign_in(page, "bob")
    return page


def card(page: Page, name: str) -> Locator:
    """A link in the list."""
    return page.get_by_role("listitem").filter(has_text=name)


def test_an_operator_makes_a_link_copies_it_once_sees_its_use_and_revokes_it(
    operator: Page, open_page: Open, tmp_path: Path
) -> None:
    operator.get_by_role("navigation", name="Pages").get_by_role("link", name="Links").click()
    operator.get_by_label("What it is for").fill("Photos of the trip")
    operator.get_by_label("Words for the sender").fill("All of them, please.")
    operator.get_by_label("Works for").select_option("7 days")
    operator.get_by_text("More options").click()
    operator.get_by_label("Ask senders for their name").check()
    operator.get_by_label("Passphrase").fill("open sesame")
    operator.get_by_label("Files", exact=True).fill("20")
    operator.get_by_role("button", name="Make the link").click()
    address = operator.get_by_text(re.compile("/r/[^/]+#.{20}"))
    expect(address).to_be_visible()
    operator.context.grant_permissions(["clipboard-read", "clipboard-write"])
    operator.get_by_role("button", name="Copy").first.click()
    copied = operator.evaluate("navigator.clipboard.readText()")
    assert copied == address.text_content()
    made = card(operator, "Photos of the trip")
    expect(made).to_contain_text("not opened yet")
    expect(made).to_contain_text("0 files of 20")
    expect(made).to_contain_text("with a passphrase · asks for a name")

    visitor = open_page(copied)
    visitor.get_by_label("Passphrase").fill("open sesame")
    visitor.get_by_label("Your name").fill("Grace")
    visitor.keyboard.press("Enter")
    expect(visitor.get_by_text("All of them, please.")).to_be_visible()
    expect_ready(visitor)
    submit(visitor, text_file(tmp_path / "a.txt"))
    expect(visitor.get_by_text(ARRIVED)).to_be_visible()

    operator.reload()
    expect(operator.get_by_text(re.compile("/r/[^/]+#"))).to_have_count(0)
    expect(made).to_contain_text("opened in 1 browser")
    expect(made).to_contain_text("1 submission · 1 file of 20")
    made.get_by_role("button", name="Revoke Photos of the trip").click()
    operator.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(made).to_contain_text("revoked")
    expect(made.get_by_role("button")).to_have_count(0)
    expect(visitor.get_by_text("This link has ended")).to_be_visible()


def test_a_limit_that_is_none_is_said_at_the_form(operator: Page) -> None:
    operator.goto("/links")
    operator.get_by_label("What it is for").fill("Too small")
    operator.locator("form").evaluate_all("(forms) => forms.forEach((form) => { form.noValidate = true; })")
    operator.get_by_text("More options").click()
    operator.get_by_label("Size in MiB").fill("0")
    operator.get_by_role("button", name="Make the link").click()
    expect(operator.get_by_role("alert").filter(visible=True)).to_contain_text("whole numbers")
    expect(operator.get_by_label("What it is for")).to_have_value("Too small")
    expect(card(operator, "Too small")).to_have_count(0)


def test_a_submission_is_shared_from_its_page(operator: Page, open_page: Open, tmp_path: Path) -> None:
    submit(operator, text_file(tmp_path / "a.txt"), text_file(tmp_path / "b.txt"))
    expect(verdict(operator)).to_have_text("Done: 2 succeeded")
    operator.get_by_role("button", name="Share result").click()
    dialog = operator.get_by_role("dialog")
    expect(dialog.get_by_label("Title")).to_have_value("a.txt and 1 more")
    dialog.get_by_role("button", name="Make the link").click()
    address = dialog.get_by_text(re.compile("/s/[^/]+#.{20}"))
    expect(address).to_be_visible()
    visitor = open_page(str(address.text_content()), **PHONE)
    expect(verdict(visitor)).to_have_text("Done: 2 succeeded")
    expect(visitor.get_by_text("a.txt and 1 more")).to_be_visible()
    dialog.get_by_role("link", name="Links").click()
    expect(card(operator, "a.txt and 1 more")).to_contain_text("shows a submission")


def test_a_viewer_makes_no_links(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/sign-in")
    sign_in(page, "eve")
    expect(page.get_by_role("link", name="Links")).to_have_count(0)
    submit(page, text_file(tmp_path / "a.txt"))
    expect(verdict(page)).to_have_text(SETTLED)
    expect(page.get_by_role("button", name="Share result")).to_have_count(0)
    page.goto("/links")
    expect(page.get_by_text("403")).to_be_visible()


# --- for everybody ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def axe() -> str:
    """The checker's script."""
    return axe_script()


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("look", LOOKS)
def test_the_pages_of_links_are_in_nobody_s_way(
    open_page: Open, axe: str, make_link: Callable[..., Any], tmp_path: Path, look: str, language: str
) -> None:
    def check(page: Page, what: str) -> None:
        require_accessible(page, axe, what)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), what

    asking = make_link(
        label="A label " * 20, text="Words " * 200, passphrase="open sesame", asks_name=True, max_files=9
    )
    page = open_page(asking["path"], locale=language, **LOOKS[look])
    expect(page.locator("[name=passphrase]")).to_be_visible()
    check(page, "what a link asks for")
    page.locator("[name=passphrase]").fill("open sesame")
    page.locator("[name=name]").fill("Grace")
    page.keyboard.press("Enter")
    expect_ready(page)
    check(page, "the zone of a link")
    page.set_input_files("#files", [text_file(tmp_path / "a.txt"), text_file(tmp_path / "b.txt")])
    check(page, "chosen files")
    page.locator("[data-part=submit]").click()
    expect(page.locator("[data-part=submission]")).to_have_attribute("data-settled", "true")
    check(page, "what has arrived")
    page.goto(asking["base"])
    expect(page.locator("[data-part=recent]")).to_be_visible()
    check(page, "a second visit")
    page.goto(f"/r/{'0' * 32}")
    check(page, "a link that does not work")
    page.goto(make_link()["base"])
    expect(page.locator("[data-part=ended]")).to_be_visible()
    check(page, "an address that is cut")

    sign_in_in(page, "ada")
    page.goto("/links")
    expect(page.locator(".card").first).to_be_visible()
    check(page, "the page of links")
    page.locator("[name=label]").first.fill("Made here")
    page.locator("[data-part=link-form] button[type=submit]").click()
    expect(page.locator("[data-part=made]")).to_be_visible()
    check(page, "a link that was made")
    page.goto("/")
    page.set_input_files("#files", [tmp_path / "a.txt"])
    page.locator("[data-part=submit]").click()
    page.locator("[data-part=share]").click()
    check(page, "the dialog that shares")


def sign_in_in(page: Page, name: str) -> None:
    """Sign in, in whatever language."""
    page.goto("/sign-in")
    page.locator("[name=name]").first.fill(name)
    page.locator("[name=password]").first.fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")
