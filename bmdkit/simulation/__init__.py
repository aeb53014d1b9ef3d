"""The built-in digital hip: analytic anatomy, CT and radiographs of it, and the truth about both."""
