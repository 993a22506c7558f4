"""Where runs are carried out: in this process, in others of this machine, or on a Ray cluster."""
