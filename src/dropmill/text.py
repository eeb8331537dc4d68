"""Foreign text made fit to be shown. Standard library only."""


def visible(text: str) -> str:
    """The text with each character that does not print (controls, escapes, bidirectional overrides) as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
