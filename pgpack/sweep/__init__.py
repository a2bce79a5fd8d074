"""Sweeps: measured trials, the journal that keeps them, and (in their own files) what runs them.

Reading a study needs neither torch nor a checkpoint: `trial` and `journal` import the standard library only.
"""
