"""What processes need to know about the services before any of their code is loaded."""

SERVICE_NAMES = ("catalog", "booking", "notify", "admin")  # in the order in which the ring runs
PREFIXES = {f"/api/{name}": name for name in SERVICE_NAMES}  # where both gateways show them


class Refusal(Exception):
    """A command can't be carried out here; the text is one sentence that a person can act on."""
