"""WHAT SURROUNDS THE ENGINE: sensors of the machine, read by a small process of its own. No torch, no Qt."""
