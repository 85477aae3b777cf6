"""The recorded session that comes with the program, and the script that made it."""
