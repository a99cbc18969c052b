"""The version of the library, for packages that must not import the whole of it."""

__version__ = "0.1.0"
