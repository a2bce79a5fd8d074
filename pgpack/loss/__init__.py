"""What a checkpoint loses on text: nats, bits per byte, KL, and their intervals."""
