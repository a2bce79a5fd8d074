"""A study for eyes: page, tables, pictures, and the page that follows a running sweep."""
