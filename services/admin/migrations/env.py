"""The Alembic environment of admin."""

from libs.common.migrations import run_environment
from services.admin.models import Base

run_environment(Base.metadata)
