"""Where Hydra starts each command: a module for each, after which the job and its log are named."""
