"""HTTP: requests into Edits, Edits into replies. Belongs here: routes, forms, errors as bodies,
media links, fetching of image URLs. Does not: decoding or encoding a pixel (asked of
`imaging.pool`), planning and running (asked of `engine`), anything that imports torch.
"""
