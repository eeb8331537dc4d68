"""The child program that runs attempts. Standard library only; it imports nothing else of Dropmill."""
