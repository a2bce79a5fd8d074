"""The commands of `pgtrain`, one file each."""
