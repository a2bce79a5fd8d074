"""The bench: a checkpoint with its model and its text, and what is done with the three."""
