"""Dropmill: a web drop zone in front of a script.

Importing this package imports nothing else, because every slot process starts by importing it.
"""

__version__ = "0.1.0"
