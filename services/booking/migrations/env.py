"""The Alembic environment of booking."""

from libs.common.migrations import run_environment
from services.booking.models import Base

run_environment(Base.metadata)
