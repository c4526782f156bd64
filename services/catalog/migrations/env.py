"""The Alembic environment of catalog."""

from libs.common.migrations import run_environment
from services.catalog.models import Base

run_environment(Base.metadata)
