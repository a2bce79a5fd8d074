"""The two rANS coders: symbols under one model, and under tables scaled by row and column."""
