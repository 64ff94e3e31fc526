"""How networks are made: `zoo` orders the stages, `stage` trains one, `checkpoint` keeps its place."""
