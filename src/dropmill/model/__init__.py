"""The words of Dropmill as types: ids, records, events, errors. Standard library only, no I/O."""
