"""What is measured, and what is made of it: one table of metrics, and from it the page, rules, alerts and dashboards. Pure."""
