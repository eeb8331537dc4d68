"""Whole numbers in text from outside.

Python refuses to read a decimal number of more than some thousand digits, with the error that letters would raise; and
`str.isdigit` takes digits of every script, some of which `int` does not. So foreign text is read here and nowhere else.
"""

NUMBER_MAX = 2**63 - 1  # what the ledger can store


def is_whole_number(text: str) -> bool:
    """Whether a text is decimal digits and nothing else, of any number."""
    return text.isascii() and text.isdigit()


def whole_number(text: str, most: int = NUMBER_MAX) -> int | None:
    """The number that a text of decimal digits names; None if it is no such text, or names more than `most`."""
    if not is_whole_number(text):
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(most)):
        return None
    number = int(digits)
    return number if number <= most else None
