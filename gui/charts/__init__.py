"""One file a chart; each draws a Trace and shares what is on screen through a Navigation."""
