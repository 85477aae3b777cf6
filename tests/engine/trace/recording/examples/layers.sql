-- The layers of one step.
SELECT layer, attention_ns, mlp_ns, rest_ns FROM step_layers WHERE step = 3;
