"""Who can build a model for a checkpoint: the user's own file, and what installed packages register."""
