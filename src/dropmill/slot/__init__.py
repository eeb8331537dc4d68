"""The slot: a small warm process that forks one process for each attempt and leaves none behind.

The pool (`dropmill.processing.pool`) starts it as `python -P -m dropmill.slot` and talks to it over one socket
(`dropmill.slot.protocol`). A slot decides nothing: time limits, results and states are the server's.

Nothing here imports another part of Dropmill, and only the standard library is imported, so that a slot starts fast
and a fork carries nothing but what the callable itself imports. The one exception is ruamel.yaml, which is imported
when a callable asks for the config (`dropmill.slot.config`). Linux only: pidfd, child subreaper, /proc.
"""
