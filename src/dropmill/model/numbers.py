"""Whole numbers in text from outside.

`int` refuses more than some thousand digits with the same error as letters, and `str.isdigit` accepts digits of every
script, some of which `int` does not. So only these functions read numbers from foreign text.
"""

NUMBER_MAX = 2**63 - 1  # what the ledger can store


def is_whole_number(text: str) -> bool:
    """Whether a text is one or more decimal digits and nothing else."""
    return text.isascii() and text.isdigit()


def whole_number(text: str, most: int = NUMBER_MAX) -> int | None:
    """The number in a text of decimal digits; None for any other text, and for a number above `most`."""
    if not is_whole_number(text):
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(most)):
        return None
    number = int(digits)
    return number if number <= most else None
