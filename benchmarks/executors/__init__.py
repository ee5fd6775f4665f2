"""Who does the stages: processes of this machine, several that train together, or the machines of a cluster."""
