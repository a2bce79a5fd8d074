"""One dial turned to a target: a budget, an equal loss, every seed of a study."""
