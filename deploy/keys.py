"""The keys and passwords of one embedded installation, made once and kept in its data folder."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from deploy.names import SERVICE_NAMES, Refusal
from deploy.servers.folders import PrivateFolder

FILE = "keys.json"


@dataclass(frozen=True)
class Keys:
    """Token keys as private JWKs, keys for personal data, second factors and addresses, the services' passwords to PostgreSQL."""

    staff_token_keys: list[dict[str, Any]]
    user_token_keys: list[dict[str, Any]]
    data_keys: list[dict[str, Any]]
    admin_data_keys: list[dict[str, Any]]
    notify_data_keys: list[dict[str, Any]]
    hash_key: str
    database_passwords: dict[str, str]

    @classmethod
    def fresh(cls) -> Self:
        from libs.common.crypto import random_key
        from libs.common.tokens import new_shared_key, new_signing_key

        return cls(
            staff_token_keys=[new_signing_key("staff-1")],
            user_token_keys=[new_shared_key("user-1")],
            data_keys=[{"kid": "data-1", "k": random_key()}],
            admin_data_keys=[{"kid": "admin-1", "k": random_key()}],
            notify_data_keys=[{"kid": "notify-1", "k": random_key()}],
            hash_key=random_key(),
            database_passwords={name: random_key(24) for name in SERVICE_NAMES},
        )

    @classmethod
    def of(cls, folder: PrivateFolder, *, with_data: bool) -> Self:
        """Read the keys of a data folder, or make them where there is no data yet that others have sealed."""
        path = folder.path / FILE
        if not path.exists():
            if with_data:
                raise Refusal(f"{path} is missing, and the data beside it can't be read without it: put it back.")
            cls.fresh()._write(folder)
        try:
            found = json.loads(path.read_text())
            if not (later := {"admin_data_keys", "notify_data_keys"} - found.keys()):
                return cls(**found)
            # Made by a release that had no second factors, or sent nothing to addresses.
            fresh = cls.fresh()
            keys = cls(**found, **{name: getattr(fresh, name) for name in later})
        except (OSError, ValueError, TypeError) as error:
            raise Refusal(f"{path} can't be read ({type(error).__name__}): put the right one back.") from None
        keys._write(folder)
        return keys

    def _write(self, folder: PrivateFolder) -> None:
        folder.write(FILE, json.dumps(asdict(self), indent=1) + "\n")
