"""Small networks as plain torch modules, for the demo, tests and examples."""
