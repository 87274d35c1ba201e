"""The commands of ``gateway``, a file each: its options, what it does, and what it prints. ``gateway/cli.py`` has the list."""
