"""Hessians and Fisher weights: observed, kept in a file, and what they say an error costs."""
