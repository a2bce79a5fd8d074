"""The commands of `pgpack`, one file each: parse, one library call, render."""
