"""Checkpoints on disk. Belongs here: the list of known files, pulling them, the store (register,
find, verify), exports, judging a file by its header, the bundled network. Does not: loading a
network or reading its architecture (asked of `models`). The training recipe in `weights/train/`
stands apart.
"""
