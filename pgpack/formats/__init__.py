"""What an artifact is on disk: our own format, the field's, and torch's files."""
