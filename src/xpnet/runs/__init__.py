"""The results of a run: its records, its files, and an evaluation of its network."""
