"""`python -m upscale.cli` is the `upscale` command."""

from upscale.cli import main

main()
