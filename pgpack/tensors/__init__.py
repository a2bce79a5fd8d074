"""What a decoder must know: grids, the trellis, records, roles."""
