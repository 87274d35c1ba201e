"""The parts of a node, made of each other in four groups; ``app.py`` makes the groups, starts and stops them."""
