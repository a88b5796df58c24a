"""What may go wrong with a gradient through randomness, read off the graph before any number is computed."""
