"""How well it went: agreement of BMD values, image metrics, registration error, a summary against known truth."""
