"""Tokens and what they are made of: tokenizers, shards, folders of text."""
