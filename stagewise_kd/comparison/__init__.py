"""Finished runs side by side: tables, figures, one page."""

__all__ = [
    "compare",
    "drawing",
    "figures",
    "latency",
    "page",
    "paired",
    "paper",
    "paper_tables",
    "publish",
    "report",
    "runs",
    "scratch",
    "settings",
    "sizes",
    "table",
    "trends",
]
