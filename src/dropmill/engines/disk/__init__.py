"""The blob store in a directory."""
