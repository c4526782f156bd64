"""The back office of a distributed installation, from nothing to the first exported visit."""

from deploy.native import Native
from tests.distributed.town import Town
from tests.journeys import back_office


def test_a_new_hall_is_built_booked_visited_and_exported(native: Native, town: Town) -> None:
    back_office.build_and_open(town.http, password=native.first_password)
