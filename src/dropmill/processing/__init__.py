"""Running the script: what a processor is, the warm process that forks it, one attempt, its output."""
