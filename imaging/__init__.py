"""Files into pixels and pixels into files. Belongs here: probing, limits, decoding, profiles,
alpha, orientation, the banded encoders, the pool of torch-free processes that does this for the
server. Does not: networks, plans, HTTP. Importing it never imports torch.
"""
