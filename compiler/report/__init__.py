"""Schedule and timeline in, losses and traces for people out."""
