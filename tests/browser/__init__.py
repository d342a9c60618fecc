"""The report in a real browser: Chromium draws it, axe-core looks for what some people could not use."""
