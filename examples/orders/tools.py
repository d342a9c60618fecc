"""Tools to try examples/orders with: `subterra chat orders --tools examples/orders/tools.py`. They look nothing up.

Order 404404 does not exist, the system does not answer for 504504, and orders whose number ends in 9 are not refunded.
"""

STATES = ("being packed", "on its way", "in your parcel shop", "delayed at customs")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


def find_order(order_number: str) -> dict[str, object]:
    """The state of an order, the day of arrival and what was paid."""
    if order_number == "404404":
        return {"error": "not_found"}
    if order_number == "504504":
        return {"error": "timeout"}
    number = int(order_number)
    return {"state": STATES[number % len(STATES)], "day": DAYS[number % len(DAYS)], "total": 12 + number % 400}


def refund_order(order_number: str, amount: int) -> dict[str, object]:
    """Nothing, or that it is too late."""
    return {"error": "too_late"} if order_number.endswith("9") else {}
