"""The engine, to be read from end to end: values with a past, the chain rule, random nodes, and the trick."""
