"""The fence around Hydra: how a command line becomes the call of a command."""
