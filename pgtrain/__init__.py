"""pgtrain: trains small GPTs of the parameter-golf family and measures them in bits per byte.

Importing this package loads nothing; torch is imported by the modules that compute with it.
"""

__version__ = "0.1.0"
