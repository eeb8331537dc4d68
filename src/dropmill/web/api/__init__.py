"""The HTTP API and the live socket: one module and one Quart blueprint for each subject."""
