"""Remote providers of models. Belongs here: one adapter for each provider over one small transport,
for models whose route leads out of the house. Does not: pixel work, decisions on routes.
No adapter exists yet: every model that needs one answers MODEL_DISABLED.
"""
