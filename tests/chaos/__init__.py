"""Servers that are killed, flooded and cut off from their disks, judged by what is left."""
