"""From a Plan to a finished file. Belongs here: the Plan, tiles, bands, device workers, the queue
in front of them, the Receipt. Does not: HTTP, the command line, any one architecture.
"""
