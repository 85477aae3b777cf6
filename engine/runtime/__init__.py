"""What runs: torch and transformers. Started by a host, by name; nothing else imports it."""
