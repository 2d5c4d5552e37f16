"""The safety case of a built design: what its campaigns say, as JSON and as one page of HTML."""
