"""From a cohort to the paired datasets: one case through all stages, many cases at once, and what is kept of them."""
