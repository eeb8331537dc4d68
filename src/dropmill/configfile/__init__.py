"""The script's YAML config, kept byte for byte.

`yaml/document` has the rules for its text, `yaml/edits` changes single values in it, `yaml/form` shows it as fields,
`schema` checks it against the JSON Schema beside it; `parser` does all of this in a child process. `revisions` is what
the server calls: it saves the text and keeps its history. `reconcile` keeps file and ledger in step, `file_sync` reads
and replaces the file. The text that was checked is the text that is saved.
"""
