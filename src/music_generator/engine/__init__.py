"""The engine: the compiled kernel and what drives it."""
