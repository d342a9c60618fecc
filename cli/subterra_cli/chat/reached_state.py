"""Which node a conversation has reached, as an agent with `serving.conversationState` says."""

from typing import Any

import httpx

from subterra_cli.chat.chat_session import ChatSession

ROUTE = "/v1/conversation/state"
NOT_KNOWN = "Which node the conversation has reached is not known"


def reached_state(session: ChatSession) -> str:
    """A line with the node and outcome that the conversation has reached, or why they are not known."""
    system = [{"role": "system", "content": session.context}] if session.context else []
    headers = {"Authorization": f"Bearer {session.api_key.value}"} if session.api_key else {}
    body = {"messages": [*system, *session.messages]}
    try:
        response = httpx.post(f"{session.url}{ROUTE}", json=body, headers=headers, timeout=session.timeout)
        return _line(response.raise_for_status().json())
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        return f"{NOT_KNOWN}: {error or type(error).__name__}"


def _line(state: dict[str, Any]) -> str:
    if state["node"] is None:
        return f"{NOT_KNOWN}: {state['message']} ({state['reason']})"
    return f"It has reached node {state['node']}, outcome {state['outcome'] if state['ended'] else 'open'}."
