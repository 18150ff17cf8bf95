"""`python -m upscale.weights.train`: the training program."""

from upscale.weights.train.train import main

main()
