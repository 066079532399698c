"""What a sweep may find: a closed list. Each is harmless, and a number that grows all the time is not."""

from enum import StrEnum


class SweepFinding(StrEnum):
    """Something that nobody else took care of."""

    OVERDUE_OPERATION = "overdue_operation"  # without progress: sent on again
    UNREADABLE_OPERATION = "unreadable_operation"  # its record can't be read, or it can't be sent on: left alone
    REQUEST_OF_SILENT_HOST = "request_of_silent_host"  # in flight there: put back into the queue
    FORGOTTEN_ADDRESS = "forgotten_address"  # given to a request that became no operation: freed
