"""Work that was done before: a store of files by content, and how each kind of entry is written."""
