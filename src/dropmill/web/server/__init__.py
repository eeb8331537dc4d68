"""What every request and socket passes before a handler sees it, and what we change in Hypercorn and Quart."""
