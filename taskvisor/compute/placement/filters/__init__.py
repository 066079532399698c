"""The rules that hosts are judged by: one module a theme. A rule is pure and says why, with numbers, and what would help."""
