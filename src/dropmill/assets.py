"""Where the files lie that are not Python: templates, static files, the default config.

They stand at the top of the project, where people look for them. The wheel carries them inside the package; an
editable install has them two folders up. Found in that order.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def templates() -> Path:
    """The folder of page templates."""
    return _find("templates")


def static() -> Path:
    """The folder of static files."""
    return _find("static")


def default_config() -> Path:
    """The config that a first start copies."""
    return _find("config.yaml")


def _find(name: str) -> Path:
    for folder in (_PACKAGE, _PACKAGE.parents[1]):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"{name} is neither in the package nor beside it; the installation is incomplete.")
