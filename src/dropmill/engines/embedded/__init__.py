"""One machine: a directory, asyncio, slots."""
