"""Random nodes: what they are, the laws they follow, and the rewrites that let a gradient through.

They know the engine and its ops, and nothing of models.
"""
