"""What operators do about staff accounts from the command line."""

from deploy import runtimes
from deploy.names import Refusal
from libs.common.clock import utcnow
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


def rescue(username: str) -> int:
    """Give an account back to who lost password, phone and recovery codes; the audit trail says so."""
    runtime = runtimes.build("admin", process="admin-rescue")
    password = runtime.db.run(lambda session: staff.rescue(session, username, now=utcnow()))
    runtime.close()
    if password is None:
        raise Refusal(f"There is no account {username}.")
    print(f"{username} can sign in with the password {password}, and has to change it. A code is not needed any more.")
    return 0
