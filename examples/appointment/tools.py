"""Tools to try examples/appointment with: `subterra chat appointment --tools examples/appointment/tools.py`. They book nothing.

Days whose number ends in 3, such as 13 May, are full. For patients whose number ends in 7 the time has just been taken, and for
those whose number ends in 9 the calendar cannot be reached.
"""

MORNING = ("8:15", "9:00", "9:45", "10:30", "11:15")
AFTERNOON = ("13:30", "14:15", "15:00", "15:45", "16:30")
CALLS: list[str] = []
"""Numbers of the patients whom the reception should call."""


def find_slots(reason: str, day: str) -> dict[str, object]:
    """A free time in the morning and one in the afternoon, or that there are none."""
    number = day.partition(" ")[0]
    if number.endswith("3"):
        return {"error": "full"}
    place = (len(reason) + len(day)) % len(MORNING)
    return {"early": MORNING[place], "late": AFTERNOON[place]}


def book_slot(patient_number: str, day: str, time: str) -> dict[str, object]:
    """The number for canceling, or why nothing was booked."""
    if patient_number.endswith("7"):
        return {"error": "taken"}
    if patient_number.endswith("9"):
        return {"error": "unreachable"}
    return {"code": 1000 + (int(patient_number) + len(day + time)) % 9000}


def request_call(patient_number: str) -> dict[str, object]:
    """Nothing: the wish is noted."""
    CALLS.append(patient_number)
    return {}
