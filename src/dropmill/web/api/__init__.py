"""The HTTP API and the live socket: one module a subject, a Quart blueprint each."""
