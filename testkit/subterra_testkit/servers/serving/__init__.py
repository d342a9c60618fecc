"""Serving without a cluster: pods that end as the kubelet ends them, behind a Service that moves as kube-proxy moves it."""
