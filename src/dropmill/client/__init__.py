"""A client of the HTTP API, for programs."""
