"""The JSON Schema beside the config: where it lies, what it says, and in which words."""
