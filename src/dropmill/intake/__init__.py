"""Bytes in: receiving uploads, opening and sealing submissions."""
