"""Networks: net(x, noise_level, label) -> a tensor like x, with noise_level = log(sigma / alpha)."""
