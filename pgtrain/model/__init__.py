"""The challenge's models: one definition, its config, and how a bare checkpoint is recognised."""
