"""Which model a state dict is of: what its names and shapes show, and what only a loss on text can tell."""
