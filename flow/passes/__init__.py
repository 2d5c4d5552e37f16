"""Graph to graph, one pass a file; `flow.pipeline` lists them in order."""
