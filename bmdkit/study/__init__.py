"""Many finished runs together: plan, comparison, tables, figures, robustness."""
