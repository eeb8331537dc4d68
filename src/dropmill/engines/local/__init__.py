"""The engine of what one machine does alone: its bus, its executor, its folder lock."""
