"""A recipe as a value and as text, the spaces it is a point of, the dials that make one, the field's presets."""
