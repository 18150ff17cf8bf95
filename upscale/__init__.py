"""Upscale images on the machine they are on: a server, a command line, exact tiles, bounded memory.

This small folder holds what every room shares: settings, the error tree and logging. Each room
(`server`, `cli`, `engine`, …) is a top-level folder of the repository that appears here as a link,
so that it is imported by its full name, `upscale.engine`. Imports point downwards only:
cli > server > providers > engine > models > imaging, weights > kernels.
"""

from upscale._version import __version__

__all__ = ["__version__"]
