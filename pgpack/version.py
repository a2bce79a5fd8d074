"""The version of this program: part of what identifies a trial, a manifest and a submission."""

__version__ = "0.1.0"
