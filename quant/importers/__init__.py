"""A model becomes an ir.Graph: one module per source format."""
