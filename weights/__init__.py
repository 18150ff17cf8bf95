"""Checkpoints on disk. Belongs here: the store (register, find, verify), the list of known files,
the bundled network. Does not: loading a network or reading its architecture (asked of `models`).
The training recipe in `weights/train/` stands apart.
"""
