"""Records as JSON, and JSON as records, for HTTP, socket, webhook, command line and event log; one module a subject.

A shape is a `TypedDict`, so that the type checker compares what a function makes with it, and the tests of
`docs/api.md` and `docs/live.md` read their fields from it. Outside this folder, records are not made into dictionaries.
Nothing here reads, decides or sends.
"""
