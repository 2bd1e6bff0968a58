"""The whole way on this machine, from shipped specs, by the same runners that `equi submit` uses."""
