"""Of Open vSwitch's database (schema Open_vSwitch, ovs-vswitchd.conf.db(5)) the columns that we read or write, and no more.

Said here instead of asked of the server: asking is one more round trip, without a time limit in the library; and a connection
is then sent these columns only, not the statistics of every port. All are there since Open vSwitch 2.6.
"""

from typing import Any

NAME = "Open_vSwitch"

_TEXT_MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}
_INTEGER = {"type": "integer"}
_SOME_INTEGER = {"type": {"key": "integer", "min": 0, "max": 1}}
_SOME_TEXT = {"type": {"key": "string", "min": 0, "max": 1}}
_NAME = {"type": "string", "mutable": False}


def _references(table: str, most: int | str) -> dict[str, Any]:
    return {"type": {"key": {"type": "uuid", "refTable": table}, "min": 0, "max": most}}


SCHEMA: dict[str, Any] = {
    "name": NAME,
    "version": "7.14.0",
    "tables": {
        "Open_vSwitch": {
            "columns": {
                "bridges": _references("Bridge", "unlimited"),
                "next_cfg": _INTEGER,
                "cur_cfg": _INTEGER,
            },
            "isRoot": True,
            "maxRows": 1,
        },
        "Bridge": {
            "columns": {"name": _NAME, "ports": _references("Port", "unlimited")},
            "indexes": [["name"]],
        },
        "Port": {
            "columns": {
                "name": _NAME,
                "interfaces": _references("Interface", "unlimited"),
                "tag": _SOME_INTEGER,
                "vlan_mode": _SOME_TEXT,
                "qos": _references("QoS", 1),
                "external_ids": _TEXT_MAP,
            },
            "indexes": [["name"]],
        },
        "Interface": {
            "columns": {
                "name": _NAME,
                "type": {"type": "string"},
                "ofport": _SOME_INTEGER,
                "error": _SOME_TEXT,
                "external_ids": _TEXT_MAP,
            },
            "indexes": [["name"]],
        },
        "QoS": {
            "columns": {"type": {"type": "string"}, "external_ids": _TEXT_MAP},
            "isRoot": True,
        },
    },
}
