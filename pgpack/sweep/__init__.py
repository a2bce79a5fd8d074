"""Sweeps: what is measured next, where, and how rows come into a study."""
