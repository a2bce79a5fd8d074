"""Command lines of pgpack and pgtrain: parse, one library call, render. Installed as `pgpack_cli`."""
