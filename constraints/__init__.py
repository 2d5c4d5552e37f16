"""Pin and timing files per board, read with importlib.resources."""
