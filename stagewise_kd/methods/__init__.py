"""Plans: what a run trains, stage by stage; and a module of its own name for every method."""

__all__ = ["checks", "losses", "method", "outline", "plan", "task", "terms", "usual"]
