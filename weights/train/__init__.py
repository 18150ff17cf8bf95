"""The recipe of the bundled network, from a folder of sharp pictures to a checkpoint and its card.
Belongs here: what is needed to make, measure, export and describe it. Does not: anything that the
server runs; nothing outside this folder imports it, and it imports no other room.
"""
