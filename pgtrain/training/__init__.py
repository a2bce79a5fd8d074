"""From text to a checkpoint: optimizers, schedule, averaging, resumption, test-time training."""
