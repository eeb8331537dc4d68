"""Records as JSON and back, for every way out of the server."""
