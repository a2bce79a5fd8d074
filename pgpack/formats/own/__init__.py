"""The artifact: byte layout (FORMAT.md), writer, reader, size report, manifest."""
