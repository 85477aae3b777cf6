"""What was measured: phases, steps, tokens, metrics. numpy and the standard library only."""
