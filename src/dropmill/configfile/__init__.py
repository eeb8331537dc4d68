"""The script's YAML config, kept byte for byte.

`document` holds the rules for its text, `edits` changes single values in it, `schema` judges it by the schema beside
it, `form` shows it as fields; `parser` does all of this in a child process. `revisions` saves the text and keeps its
history, `mirror` replaces its file. What is saved is the text that was checked.
"""
