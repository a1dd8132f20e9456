"""The machine underneath: cameras, processes, memory, systemd, folders."""
