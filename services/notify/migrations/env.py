"""The Alembic environment of notify."""

from libs.common.migrations import run_environment
from services.notify.models import Base

run_environment(Base.metadata)
