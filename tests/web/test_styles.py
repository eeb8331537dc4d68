"""What the style sheets promise: one scale of sizes, and colours that can be told apart in both themes."""

import re
from itertools import combinations
from pathlib import Path

import pytest

STYLES = Path(__file__).parents[2] / "static" / "css"
TOKENS = (STYLES / "tokens.css").read_text()
THEMES = ("light", "dark")

TEXT_CONTRAST = 4.5  # WCAG 2.2, 1.4.3
SHAPE_CONTRAST = 3.0  # WCAG 2.2, 1.4.11
LIGHTNESS_STEP = 9.0  # of L*; bars that touch differ by more, whatever their hue
SURFACE_STEP = 3.0  # of L*; what lies on the page is seen to

OTHER_SIZES = {
    "config-form.css",
    "config-history.css",
    "config-merge.css",
    "config.css",
    "job.css",
    "log.css",
    "submission.css",
}
"""Style sheets with sizes beside the scale. The list may only become shorter."""


def colour(name: str, theme: str) -> str:
    """The colour of a custom property in a theme, as `#rrggbb`."""
    found = re.search(rf"--{name}: ([^;]+);", TOKENS)
    assert found is not None, name
    if (other := re.fullmatch(r"var\(--([\w-]+)\)", found[1])) is not None:
        return colour(other[1], theme)
    both = re.fullmatch(r"light-dark\((#\w{6}), (#\w{6})\)", found[1])
    assert both is not None, found[1]
    return both[1 + THEMES.index(theme)]


def luminance(value: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = [int(value[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio (WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def lightness(value: str) -> float:
    """L* of CIELAB, 0 to 100."""
    y = luminance(value)
    return 903.3 * y if y <= 0.008856 else float(116 * y ** (1 / 3) - 16)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    "text", ["text", "text-soft", "text-faint", "accent", "accent-strong", "green", "amber", "red"]
)
def test_text_can_be_read_on_every_surface(text: str, theme: str) -> None:
    for surface in ("page", "surface", "surface-quiet"):
        assert contrast(colour(text, theme), colour(surface, theme)) >= TEXT_CONTRAST, surface


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    ("text", "surface"),
    [
        *((name, f"{name}-tint") for name in ("teal", "green", "amber", "red")),
        *(
            (text, f"{name}-tint")
            for name in ("amber", "red")
            for text in ("text", "text-soft", "text-faint", "accent")
        ),
        ("on-accent", "accent"),
        ("on-accent", "accent-strong"),
    ],
)
def test_text_can_be_read_on_its_tint(text: str, surface: str, theme: str) -> None:
    assert contrast(colour(text, theme), colour(surface, theme)) >= TEXT_CONTRAST


@pytest.mark.parametrize("theme", THEMES)
def test_bars_differ_in_lightness_and_can_be_seen_on_their_track(theme: str) -> None:
    bars = {name: colour(f"bar-{name}", theme) for name in ("sent", "working", "good")}
    for one, other in combinations(bars.values(), 2):
        assert abs(lightness(one) - lightness(other)) >= LIGHTNESS_STEP
    for name in (*bars, "bad", "quiet"):
        assert contrast(colour(f"bar-{name}", theme), colour("track", theme)) >= SHAPE_CONTRAST, name


@pytest.mark.parametrize("theme", THEMES)
def test_what_lies_on_the_page_differs_from_it(theme: str) -> None:
    page, surface, track = (lightness(colour(name, theme)) for name in ("page", "surface", "track"))
    assert abs(page - surface) >= SURFACE_STEP
    assert abs(page - track) >= SURFACE_STEP
    assert contrast(colour("line-control", theme), colour("page", theme)) >= SHAPE_CONTRAST


def sizes(style: str) -> list[str]:
    """The font sizes of a style sheet that are not of the scale."""
    found = re.findall(r"font-size: ([^;]+);", style) + re.findall(r"\bfont: (?:\d+ )?([^\s/;]+)", style)
    return [
        size
        for size in found
        if not re.fullmatch(r"var\(--(small|body|large|title|display|field-touch)\)|inherit", size)
    ]


@pytest.mark.parametrize("path", sorted(STYLES.glob("*.css")), ids=lambda path: path.name)
def test_text_has_a_size_of_the_scale(path: Path) -> None:
    """`code` has a size in em: it stands in text of any size."""
    others = [size for size in sizes(path.read_text()) if size != "0.867em"]
    if path.name in OTHER_SIZES:
        assert others, "all its sizes are of the scale: take it off the list"
    else:
        assert others == []
