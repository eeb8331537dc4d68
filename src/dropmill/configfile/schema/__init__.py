"""The JSON Schema beside the config: its file, its rules, and its errors in plain words."""
