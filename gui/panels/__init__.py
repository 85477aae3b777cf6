"""The panels of the window: one file each. A panel shows facts and says what the user wants, by signals."""
