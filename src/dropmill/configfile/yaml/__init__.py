"""Reading YAML with the place of every byte, and changing values without touching what surrounds them."""
