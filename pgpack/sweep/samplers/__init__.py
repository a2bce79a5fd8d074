"""Samplers: what to measure next in a space, told what was measured. They give plain recipes and measure nothing."""
