"""Networks: net(x, noise, label) -> a tensor like x, with noise = log(sigma / alpha)."""
