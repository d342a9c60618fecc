"""The dashboards without Grafana: what a Prometheus answers to their queries, as one page."""
