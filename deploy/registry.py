"""All services of the product, in the order in which the ring runs."""

from libs.common.service import Service
from services.admin.service import service as admin
from services.booking.service import service as booking
from services.catalog.service import service as catalog
from services.notify.service import service as notify

SERVICES: tuple[Service, ...] = (catalog, booking, notify, admin)
BY_NAME: dict[str, Service] = {service.name: service for service in SERVICES}
