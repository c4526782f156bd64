"""What operators do about staff accounts from the command line."""

from deploy import runtimes
from deploy.names import Refusal
from services.admin import staff


def unlock(username: str) -> int:
    """Lift every lock that failed sign-ins put on an account; the audit trail says so."""
    runtime = runtimes.build("admin", process="admin-unlock")
    found = runtime.db.run(lambda session: staff.unlock(session, username))
    runtime.close()
    if not found:
        raise Refusal(f"There is no account {username}.")
    print(f"{username} can sign in again.")
    return 0
