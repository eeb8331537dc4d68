"""Measurements of a real server, printed side by side with what else could be used: `python -m benchmarks`.

Nothing here asserts a time. What is measured must have gone right, though: a wrong answer is an error.
"""
