"""A script whose module is large: a fork of it costs more, and so may the end of its interpreter."""

import pandas  # noqa: F401 - only its import is measured


def nothing(path: str) -> None:
    """Cost nothing, so that what remains is the server's and the import's."""
