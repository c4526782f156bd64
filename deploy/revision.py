"""`make revision SERVICE=booking MESSAGE="..."`: write a migration from what the models say, against a throw-away server."""

import sys
import tempfile
from pathlib import Path

from deploy import bootstrap
from deploy.registry import BY_NAME, SERVICES
from deploy.servers.postgres import Postgres
from libs.common import migrations


def main() -> None:
    name, message = sys.argv[1], sys.argv[2]
    passwords = {service.name: "throwaway" for service in SERVICES}
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder) / "pg", durable=False) as server:
        bootstrap.create(server.superuser_url(), passwords)
        url = bootstrap.login_url(server.superuser_url(), name, passwords[name])
        migrations.upgrade(BY_NAME[name].migrations, url)
        migrations.new_revision(BY_NAME[name].migrations, url, message)


if __name__ == "__main__":
    main()
