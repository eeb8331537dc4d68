"""`python -m dropmill` is `dropmill`."""

from dropmill.cli import main

main()
