"""Text that is made where there is none, as flags name it."""

SELF = "self"  # what the model itself writes
RANDOM = "random"  # pieces drawn at random, which calibrate alone
MADE = (SELF, RANDOM)
