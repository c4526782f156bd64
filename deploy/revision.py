"""`make revision SERVICE=booking MESSAGE="..."`: write a migration from what the models say, against a throw-away server."""

import sys
import tempfile
from pathlib import Path

from deploy import bootstrap, registry
from deploy.names import SERVICE_NAMES
from deploy.servers.postgres import Postgres
from libs.common import migrations


def main() -> None:
    name, message = sys.argv[1], sys.argv[2]
    passwords = dict.fromkeys(SERVICE_NAMES, "throwaway")
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder) / "pg", durable=False) as server:
        bootstrap.create(server.superuser_url(), passwords)
        url = bootstrap.login_url(server.superuser_url(), name, passwords[name])
        migrations.upgrade(registry.one(name).migrations, url)
        migrations.new_revision(registry.one(name).migrations, url, message)


if __name__ == "__main__":
    main()
