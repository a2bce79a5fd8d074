"""Named fp32 tensors from any file, and what their names, shapes and values say."""
