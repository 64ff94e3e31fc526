"""From a summary to decisions: paired statistics, fronts, recommendations, comparisons and tables. Pure."""
