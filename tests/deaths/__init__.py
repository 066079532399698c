"""Real processes that really die, while ten callers build, change and delete guests; and what must hold afterwards.

`hosts` is what dies, `blows` is how, `callers` is what goes on meanwhile, `remains` is what must be true at the end, and
`trial` puts them together. `make deaths DEATHS=…` says how often each kind of death strikes.
"""
