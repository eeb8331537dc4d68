"""What axe finds in a page (WCAG 2.2 AA, best practice), and the looks in which pages are checked."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Page
from tests.support.missing import missing

AXE = Path(__file__).parents[2] / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True},
}


def axe_script() -> str:
    """The checker's script; without it tests are skipped with the line to run, but never in CI."""
    if not AXE.exists():
        missing("axe-core is not installed; run: make test-setup (needs node and npm)")
    return AXE.read_text()


def require_accessible(page: Page, axe: str, what: str) -> None:
    """Fail if the page, as it is now, is in somebody's way.

    Args:
        axe: the checker's script.
        what: what the page shows, for the message.
    """
    page.wait_for_load_state()  # an element counts as visible before the styles have come, in sizes that nobody sees
    page.evaluate(axe)
    found = page.evaluate("(rules) => axe.run(document, { runOnly: rules })", RULES)
    told = [(what, one["id"], [node["target"] for node in one["nodes"]]) for one in found["violations"]]
    assert not told, told
