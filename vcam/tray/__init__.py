"""The tray icon: a process of its own, a client of the daemon's control door."""
