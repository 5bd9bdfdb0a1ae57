"""The trials of scripts/faults, one module each: run(n, seed, folder) -> a dict to print, whose "broken" lists what
broke a promise."""
