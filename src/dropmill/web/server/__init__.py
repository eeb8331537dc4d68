"""The path of a request or socket before its handler, and our changes to Hypercorn and Quart."""
