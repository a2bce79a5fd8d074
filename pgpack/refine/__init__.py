"""What descends on calibration text while packing: tuned steps, compensated weights."""
