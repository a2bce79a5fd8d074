"""What a person sees: tables, bars, notes, pictures in the terminal, and how a command stops."""
