"""Who may call an agent, and which of its versions answers: Service, NetworkPolicies, API key, disruption budget."""
