"""Who may speak with the controller: its certificate authority, and what is checked of others."""
