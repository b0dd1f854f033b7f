"""What is left of a run: its records, its files, and what they say about the network."""
