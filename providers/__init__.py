"""Remote providers of models. Belongs here: one adapter for each provider over one small transport,
for models whose route leads out of the house; what their failures mean; which routes can be used,
and the turn from one to the next. Does not: pixel work (files go in and come out as they are),
keys of callers, records, HTTP of our own.
"""
