"""Where trials are measured: in this process, in workers of this machine, on a cluster."""
