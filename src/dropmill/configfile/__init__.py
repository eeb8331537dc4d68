"""The script's YAML config, kept byte for byte.

`document` holds the rules for its text, `parser` applies them in a child process, `revisions` saves it and keeps its
history, `mirror` replaces its file. What is saved is the text that was checked: nothing here writes YAML of its own.
"""
