"""Everything on one machine: a directory, SQLite, asyncio, slots."""
