"""A study on disk: trials, their card and journal, seeds, comparisons, exports."""
