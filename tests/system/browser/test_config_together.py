"""Several people and one config: what others save is told and merged, and every revision can be found again."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.support.editor_actions import editor, write
from tests.support.server import Server
from tests.support.waiting import wait_until

BASE = """\
# How thumbnails are made.
size: 320          # longest edge, in pixels
formats: [webp,  png]

# --- quality ---
quality:
  webp: 82
  png: 9
watermark: 'Lab 2026'
"""
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
SENDER = re.compile("127.0.0.1|localhost")  # before and after DNS has answered
Open = Callable[..., Page]
Save = Callable[..., str]


@pytest.fixture(autouse=True)
def save(site: Server) -> Save:
    """Saves a config as someone else would, and returns its SHA-256; each test begins with the base."""

    def save(text: str | bytes, message: str = "") -> str:
        content = text.encode() if isinstance(text, str) else text
        headers = {"If-Match": site.http.get("/api/v1/config").headers["ETag"], "Dropmill-Message": message}
        answer = site.http.put("/api/v1/config", content=content, headers=headers)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["sha256"])

    save(BASE)
    return save


def saved(site: Server) -> str:
    return site.http.get("/api/v1/config").content.decode()


def notice(page: Page) -> Locator:
    return page.locator("[data-part=merge]")


def press(where: Page | Locator, name: str) -> None:
    where.get_by_role("button", name=name, exact=True).click()


def conflicts(page: Page) -> Locator:
    return page.get_by_role("group", name="Conflict")


def revisions(page: Page) -> Locator:
    return page.get_by_role("list", name="History").get_by_role("listitem")


# --- merging ---------------------------------------------------------------------------------------------------------


def test_two_edit_at_once_and_the_second_merges_and_saves(open_page: Open, site: Server) -> None:
    """Nothing of either is lost, both are in the history, and the first sees the second's too."""
    first, second = open_page("/config"), open_page("/config")
    write(first, BASE.replace("320 ", "640 "))
    write(second, BASE.replace("'Lab 2026'", "'Lab 2027'"))
    press(first, "Save")
    expect(notice(second)).to_contain_text("Someone saved a newer revision from")
    expect(notice(second)).to_contain_text("just now. Your text merges with it: no line was changed by both.")
    press(notice(second), "Merge")
    expect(notice(second)).to_contain_text("Merged: 1 line of theirs, 1 line of yours.")
    both = BASE.replace("320 ", "640 ").replace("'Lab 2026'", "'Lab 2027'")
    expect(editor(second)).to_have_text(both.replace("\n", ""))
    expect(second.get_by_text("not saved · 1 line changed")).to_be_visible()
    press(second, "Save")
    expect(second.get_by_text("not saved")).to_be_hidden()
    expect(notice(second)).to_be_hidden()
    assert saved(site) == both
    expect(editor(first)).to_have_text(both.replace("\n", ""))
    for page in (first, second):
        expect(revisions(page).nth(0)).to_contain_text("newest")
        expect(revisions(page).nth(0)).to_contain_text(SENDER)


def test_where_both_changed_the_same_lines_one_chooses(open_page: Open, site: Server, save: Save) -> None:
    page = open_page("/config")
    write(page, BASE.replace("320 ", "200 ").replace("webp: 82", "webp: 70").replace("[webp,  png]", "[png]"))
    save(BASE.replace("320 ", "640 ").replace("webp: 82", "webp: 95").replace("2026", "2027"))
    expect(notice(page)).to_contain_text("Your text merges with it, except for 2 conflicts.")
    press(notice(page), "Merge")
    expect(conflicts(page)).to_have_count(2)
    expect(conflicts(page).nth(0)).to_contain_text("Conflict 1 of 2 · line 2")
    for side, line in (("Before", "size: 320"), ("Theirs", "size: 640"), ("Mine", "size: 200")):
        expect(conflicts(page).nth(0).get_by_label(side, exact=True).last).to_contain_text(line)
    apply = page.get_by_role("button", name="Use this merge")
    expect(apply).to_be_disabled()
    conflicts(page).nth(0).get_by_role("radio", name="Mine", exact=True).check()
    expect(notice(page)).to_contain_text("1 of 2 chosen")
    conflicts(page).nth(1).get_by_role("radio", name="Both: theirs, then mine").check()
    apply.click()
    broken = notice(page).get_by_role("group", name="With these choices the result would not be valid.")
    expect(broken).to_contain_text("Line 8, column 3")
    expect(broken).to_be_focused()
    assert "webp: 95" not in editor(page).inner_text()
    press(broken, "Take it and fix it in the editor")
    merged = (
        BASE.replace("320 ", "200 ")
        .replace("  webp: 82\n", "  webp: 95\n  webp: 70\n")
        .replace("[webp,  png]", "[png]")
        .replace("2026", "2027")
    )
    expect(editor(page)).to_have_text(merged.replace("\n", ""))
    expect(notice(page)).to_contain_text("Fix what is marked there, then save.")
    expect(page.get_by_role("button", name="Line 8, column 3")).to_be_visible()
    write(page, merged.replace("  webp: 70\n", ""))
    expect(page.get_by_text("Valid YAML")).to_be_visible()
    press(page, "Save")
    expect(page.get_by_text("not saved")).to_be_hidden()
    assert saved(site) == merged.replace("  webp: 70\n", "")


def test_a_merge_without_a_choice_that_would_not_be_valid_is_asked_about(
    open_page: Open, site: Server, save: Save
) -> None:
    """Both add the same key, far from each other."""
    page = open_page("/config")
    write(page, BASE + "extra: mine\n")
    theirs = "extra: theirs\n" + BASE
    save(theirs)
    press(notice(page), "Merge")
    broken = notice(page).get_by_role("group", name="No line was changed by both, but the result would not be valid.")
    expect(broken).to_contain_text("Line 11, column 1")
    press(broken, "Go back")
    expect(notice(page).get_by_role("button", name="Merge", exact=True)).to_be_focused()
    expect(editor(page)).to_have_text((BASE + "extra: mine\n").replace("\n", ""))
    page.keyboard.press("Enter")
    expect(broken).to_be_visible()
    editor(page).press("Control+End")
    page.keyboard.type("more: 1")  # it is about another text now
    expect(broken).to_be_hidden()
    press(notice(page), "Merge")
    press(broken, "Take it and fix it in the editor")
    expect(page.get_by_role("button", name="Line 11, column 1")).to_be_visible()
    press(page, "Save")
    expect(page.get_by_text("Not saved: the text is not valid.")).to_be_visible()
    assert saved(site) == theirs


def test_what_two_change_on_neighbouring_lines_is_merged_without_a_question(
    open_page: Open, site: Server, save: Save
) -> None:
    save("a: 1\nb: 1\n")
    page = open_page("/config")
    write(page, "a: 1\nb: 2\n")
    save("a: 2\nb: 1\n")
    press(notice(page), "Merge")
    expect(notice(page)).to_contain_text("Merged: 1 line of theirs, 1 line of yours.")
    press(page, "Save")
    expect(page.get_by_text("not saved")).to_be_hidden()
    assert saved(site) == "a: 2\nb: 2\n"


def test_a_merge_can_be_undone_and_then_it_is_asked_again(open_page: Open, site: Server, save: Save) -> None:
    """A save of what is undone is as stale as it was before."""
    page = open_page("/config")
    mine, theirs = BASE.replace("2026", "2027"), BASE.replace("320 ", "640 ")
    write(page, mine)
    save(theirs)
    press(notice(page), "Merge")
    expect(notice(page)).to_contain_text("Merged: 1 line of theirs")
    page.keyboard.press("Control+z")
    expect(editor(page)).to_have_text(mine.replace("\n", ""))
    expect(notice(page)).to_contain_text("Your text merges with it: no line was changed by both.")
    press(page, "Save")
    expect(notice(page)).to_be_focused()
    assert saved(site) == theirs
    press(notice(page), "Load theirs")
    expect(editor(page)).to_have_text(theirs.replace("\n", ""))
    expect(page.get_by_text("not saved")).to_be_hidden()
    press(notice(page), "Close")
    expect(notice(page)).to_be_hidden()
    page.keyboard.press("Control+z")
    expect(notice(page)).to_contain_text("Your text merges with it: no line was changed by both.")
    press(notice(page), "Load theirs")
    press(notice(page), "Go back to mine")
    expect(editor(page)).to_have_text(mine.replace("\n", ""))
    expect(notice(page)).to_contain_text("Your text merges with it: no line was changed by both.")


def test_while_one_chooses_another_saves_again_and_choices_stay(open_page: Open, site: Server, save: Save) -> None:
    page = open_page("/config")
    write(page, BASE.replace("320 ", "200 ").replace("webp: 82", "webp: 70"))
    theirs = BASE.replace("320 ", "640 ").replace("webp: 82", "webp: 95")
    save(theirs)
    press(notice(page), "Merge")
    for conflict in conflicts(page).all():
        conflict.get_by_role("radio", name="Theirs", exact=True).check()
    expect(notice(page)).to_contain_text("All chosen")
    save(theirs.replace("webp: 95", "webp: 96"))
    expect(notice(page)).to_contain_text("1 of 2 chosen")
    expect(conflicts(page).nth(0).get_by_role("radio", name="Theirs", exact=True)).to_be_checked()
    expect(conflicts(page).nth(1)).to_contain_text("webp: 96")
    press(notice(page), "All mine")
    press(notice(page), "Use this merge")
    press(page, "Save")
    expect(page.get_by_text("not saved")).to_be_hidden()
    assert saved(site) == BASE.replace("320 ", "200 ").replace("webp: 82", "webp: 70")


def test_overwriting_theirs_takes_a_word_of_its_own(open_page: Open, site: Server, save: Save) -> None:
    """The page does not hear of the save, so the server's 412 tells it."""
    page = open_page("about:blank")
    page.route_web_socket("**/api/v1/live", lambda socket: None)
    page.goto("/config")
    mine, theirs = BASE.replace("2026", "2027"), BASE.replace("320 ", "640 ")
    write(page, mine)
    save(theirs)
    press(page, "Save")
    press(notice(page), "See theirs")
    expect(notice(page)).to_contain_text("640")
    press(notice(page), "Keep mine")
    expect(notice(page)).to_contain_text("lacks what the newer revision changed (1 line)")
    assert saved(site) == theirs
    press(notice(page), "Keep mine and overwrite")
    expect(notice(page)).to_contain_text("Your text is unchanged.")
    assert saved(site) == theirs
    press(page, "Save")
    expect(page.get_by_text("not saved")).to_be_hidden()
    assert saved(site) == mine


def test_byte_order_mark_and_line_ends_survive_a_merge(open_page: Open, site: Server, save: Save) -> None:
    base = b"\xef\xbb\xbfa: 1\r\nb: 2\r\n\r\nc: 3\nd: 4\r\n"
    save(base)
    page = open_page("/config")
    expect(editor(page)).to_have_text("a: 1b: 2c: 3d: 4")
    write(page, "a: 1\nb: 2\n\nc: 3\nd: 5\n")
    save(base.replace(b"a: 1", b"a: 7"))
    press(notice(page), "Merge")
    press(page, "Save")
    expect(page.get_by_text("not saved")).to_be_hidden()
    assert site.http.get("/api/v1/config").content == base.replace(b"a: 1", b"a: 7").replace(b"d: 4", b"d: 5")


# --- history ---------------------------------------------------------------------------------------------------------


def test_the_history_says_who_saved_what_and_compares_any_two(open_page: Open, site: Server, save: Save) -> None:
    larger = BASE.replace("320 ", "640 ")
    save(larger, "Larger <b>thumbnails</b>")
    save(larger.replace("2026", "2027"), "Next year")
    page = open_page("/config")
    expect(revisions(page).nth(0)).to_contain_text("Next year")
    expect(revisions(page).nth(1)).to_contain_text("Larger <b>thumbnails</b>")
    expect(revisions(page).nth(1)).to_contain_text(SENDER)
    revisions(page).nth(1).get_by_role("button", name="Compare").click()
    dialog = page.get_by_role("dialog", name="Compare revisions")
    expect(dialog.get_by_role("button", name="What it changed")).to_have_attribute("aria-pressed", "true")
    expect(dialog).to_contain_text("size: 640")
    expect(dialog).not_to_contain_text("2027")
    press(dialog, "What changed since")
    expect(dialog).to_contain_text("2027")
    dialog.get_by_label("From", exact=True).select_option(index=2)
    expect(dialog).to_contain_text("size: 640")
    dialog.get_by_label("To", exact=True).select_option(index=2)
    expect(dialog).to_contain_text("Both are the same.")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    write(page, BASE + "mine: 1\n")
    revisions(page).nth(0).get_by_role("button", name="Compare").click()
    press(dialog, "Compare with my text")
    expect(dialog).to_contain_text("mine: 1")

    site.config.write_bytes(b"outside: true\n")
    expect(revisions(page).nth(0)).to_contain_text("Changed on the server")


def test_a_link_opens_what_changed_since_a_revision(open_page: Open, save: Save) -> None:
    """However old it is."""
    old = save(BASE.replace("2026", "1999"), "Long ago")
    for number in range(25):
        save(BASE + f"number: {number}\n")
    page = open_page(f"/config?revision={old}")
    dialog = page.get_by_role("dialog", name="Compare revisions")
    expect(dialog).to_contain_text("1999")
    expect(dialog).to_contain_text("number: 24")
    press(dialog, "Close")
    expect(page).to_have_url(re.compile("/config$"))
    shown = revisions(page).count()
    press(page, "Older revisions")
    expect(revisions(page).nth(shown)).to_be_visible()


def test_restoring_makes_a_new_revision_and_leaves_unsaved_text_to_be_merged(
    open_page: Open, site: Server, save: Save
) -> None:
    save(BASE.replace("320 ", "640 "), "Larger")
    page, other = open_page("/config"), open_page("/config")
    write(other, BASE.replace("320 ", "640 ") + "mine: 1\n")
    before = revisions(page).nth(1)
    before.get_by_role("button", name="Restore").click()
    expect(before).to_contain_text("The current one stays in the history.")
    press(before, "Restore it")
    expect(editor(page)).to_have_text(BASE.replace("\n", ""))
    assert saved(site) == BASE
    expect(revisions(page).nth(0)).to_contain_text("newest")
    expect(revisions(page).nth(1)).to_contain_text("Larger")
    expect(notice(other)).to_contain_text("Your text merges with it: no line was changed by both.")
    revisions(other).nth(1).get_by_role("button", name="Restore").click()
    expect(revisions(other).nth(1)).to_contain_text("Your unsaved text stays in the editor")


def test_a_leaked_secret_is_removed_for_good(open_page: Open, site: Server, save: Save) -> None:
    secret = save(BASE + "password: hunter2\n", "Oops")
    waiting = site.send(("wait.txt", b"x"))["files"][0]["job"]["id"]
    wait_until(lambda: site.get(f"/jobs/{waiting}")["attempts"])
    save(BASE + "password: elsewhere\n", "Better")
    page = open_page(f"/config?revision={secret}")
    dialog = page.get_by_role("dialog", name="Compare revisions")
    expect(dialog).to_contain_text("hunter2")
    press(dialog, "Remove for good")
    expect(dialog).to_contain_text("This cannot be undone.")
    press(dialog, "Remove it for good")
    expect(dialog.get_by_role("alert")).to_contain_text("Queued or running jobs")
    site.http.post(f"/api/v1/jobs/{waiting}/cancel")
    wait_until(lambda: site.get(f"/jobs/{waiting}")["state"] == "cancelled")
    press(dialog, "Remove it for good")
    expect(dialog).to_contain_text("The text of this revision was removed for good")
    expect(dialog).not_to_contain_text("hunter2")
    press(dialog, "Close")
    expect(revisions(page).nth(1)).to_contain_text("text removed")
    expect(revisions(page).nth(1).get_by_role("button", name="Restore")).to_be_hidden()
    assert site.http.get(f"/api/v1/config/revisions/{secret}").status_code == 410

    job = open_page(f"/jobs/{waiting}")
    job.get_by_role("button", name="What changed since attempt 1").click()
    expect(job.get_by_text("was removed for good, so it cannot be compared")).to_be_visible()


def test_on_a_phone_merging_and_history_can_be_used(open_page: Open, site: Server, save: Save) -> None:
    page = open_page("/config", **PHONE)
    write(page, BASE.replace("320 ", "200 "))
    save(BASE.replace("320 ", "640 "), "Larger thumbnails for the wall in the entrance hall")
    press(notice(page), "Merge")
    conflicts(page).get_by_role("radio", name="Mine", exact=True).check()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    press(notice(page), "Use this merge")
    revisions(page).nth(0).get_by_role("button", name="Compare").click()
    dialog = page.get_by_role("dialog", name="Compare revisions")
    expect(dialog).to_contain_text("size: 640")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    press(dialog, "Close")
    press(page, "Save")
    expect(page.get_by_text("not saved")).to_be_hidden()
    assert saved(site) == BASE.replace("320 ", "200 ")
