"""What libvirt's errors mean to us: one place that turns a libvirtError into the error whose reaction we want.

Codes and domains: https://libvirt.org/html/libvirt-virterror.html
"""

from collections.abc import Mapping
from enum import Enum, auto

import libvirt

from taskvisor.model.errors import CannotAsk, DoesNotFit, Refused, Retryable, TaskvisorError

BUSY_DELAY_S = 5.0
"""Another call of libvirt's holds the domain; libvirt itself has waited 30 s for it by then."""
REOPEN_DELAY_S = 2.0
"""A libvirtd that is being restarted is back within seconds."""


class Reaction(Enum):
    """What a libvirt error makes of a call, when it isn't answered by the verb that made the call."""

    CANNOT_ASK = auto()  # nobody has judged the request: libvirtd is away, or does not let us in
    REJECTED = auto()  # libvirt has judged the request, and will judge it so again
    NO_MEMORY = auto()  # not on this host
    HELD = auto()  # somebody else has the domain; or QEMU or its agent don't answer: wait, then ask again
    AGAIN = auto()  # all that may be otherwise next time; the step's tries bound it


_TRANSPORT = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE})
_BROKEN = frozenset(
    {
        libvirt.VIR_ERR_SYSTEM_ERROR,  # end of file, broken pipe, no such socket
        libvirt.VIR_ERR_INTERNAL_ERROR,  # keep-alive time-out, socket closed
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INVALID_CONN,
        libvirt.VIR_ERR_RPC,
    }
)

REACTIONS: Mapping[str, tuple[Reaction, str]] = {
    # Between us and libvirtd
    "VIR_ERR_NO_CONNECT": (Reaction.CANNOT_ASK, "libvirtd is not there"),
    "VIR_ERR_INVALID_CONN": (Reaction.AGAIN, "the handle's connection was closed; another is opened"),
    "VIR_ERR_RPC": (Reaction.AGAIN, "a reply that could not be read; the connection's own are told by their domain"),
    "VIR_ERR_UNKNOWN_HOST": (Reaction.CANNOT_ASK, "the URI's host has no address"),
    "VIR_ERR_NO_HOSTNAME": (Reaction.CANNOT_ASK, "the URI names no host"),
    "VIR_ERR_GNUTLS_ERROR": (Reaction.CANNOT_ASK, "TLS failed"),
    "VIR_ERR_SSH": (Reaction.CANNOT_ASK, "ssh failed"),
    "VIR_ERR_LIBSSH": (Reaction.CANNOT_ASK, "ssh failed"),
    "VIR_ERR_AUTH_FAILED": (Reaction.CANNOT_ASK, "libvirtd does not let us in"),
    "VIR_ERR_AUTH_CANCELLED": (Reaction.CANNOT_ASK, "likewise"),
    "VIR_ERR_AUTH_UNAVAILABLE": (Reaction.CANNOT_ASK, "nobody was there to be asked, as polkit's agent"),
    "VIR_ERR_NO_SERVER": (Reaction.CANNOT_ASK, "the daemon has no such server (admin API)"),
    "VIR_ERR_NO_CLIENT": (Reaction.CANNOT_ASK, "the daemon has no such client (admin API)"),
    "VIR_ERR_DBUS_SERVICE": (Reaction.AGAIN, "a D-Bus service of the host's, as machined, does not answer"),
    # What was asked is wrong, or cannot be had here
    "VIR_ERR_NO_SUPPORT": (Reaction.REJECTED, "the driver has no such call"),
    "VIR_ERR_OPERATION_UNSUPPORTED": (Reaction.REJECTED, "the driver cannot do it for this domain"),
    "VIR_ERR_ARGUMENT_UNSUPPORTED": (Reaction.REJECTED, "this libvirt does not know the argument"),
    "VIR_ERR_CONFIG_UNSUPPORTED": (Reaction.REJECTED, "this QEMU or driver has no such device or feature"),
    "VIR_ERR_CPU_INCOMPATIBLE": (Reaction.REJECTED, "this host's CPU is not the one asked for"),
    "VIR_ERR_INVALID_ARG": (Reaction.REJECTED, "the call's arguments make no sense"),
    "VIR_ERR_OVERFLOW": (Reaction.REJECTED, "a number is too large"),
    "VIR_ERR_XML_ERROR": (Reaction.REJECTED, "the XML is none, or says what cannot be"),
    "VIR_ERR_XML_DETAIL": (Reaction.REJECTED, "likewise"),
    "VIR_ERR_XML_INVALID_SCHEMA": (Reaction.REJECTED, "the XML breaks libvirt's schema"),
    "VIR_ERR_OS_TYPE": (Reaction.REJECTED, "no such kind of guest here"),
    "VIR_ERR_NO_KERNEL": (Reaction.REJECTED, "the definition lacks a kernel"),
    "VIR_ERR_NO_ROOT": (Reaction.REJECTED, "the definition lacks a root device"),
    "VIR_ERR_NO_SOURCE": (Reaction.REJECTED, "the definition lacks a disk's source"),
    "VIR_ERR_NO_TARGET": (Reaction.REJECTED, "the definition lacks a disk's target"),
    "VIR_ERR_NO_NAME": (Reaction.REJECTED, "the definition lacks a name"),
    "VIR_ERR_NO_OS": (Reaction.REJECTED, "the definition lacks an operating system"),
    "VIR_ERR_NO_DEVICE": (Reaction.REJECTED, "the definition lacks a device"),
    "VIR_ERR_INVALID_MAC": (Reaction.REJECTED, "that is no MAC"),
    "VIR_ERR_NO_SECURITY_MODEL": (Reaction.REJECTED, "no such security model on this host"),
    "VIR_ERR_OPERATION_DENIED": (Reaction.REJECTED, "the connection may only read"),
    "VIR_ERR_ACCESS_DENIED": (Reaction.REJECTED, "the operator's access rules forbid it"),
    "VIR_ERR_MIGRATE_UNSAFE": (Reaction.REJECTED, "the disks' caches could lose data"),
    "VIR_ERR_SNAPSHOT_REVERT_RISKY": (Reaction.REJECTED, "the guest could be harmed, and nobody has forced it"),
    # This host, now
    "VIR_ERR_NO_MEMORY": (Reaction.NO_MEMORY, "the host has no memory for it"),
    # Somebody else has it, or somebody is slow
    "VIR_ERR_OPERATION_TIMEOUT": (
        Reaction.HELD,
        "another call holds the domain, for 30 s already: does its QEMU hang?",
    ),
    "VIR_ERR_RESOURCE_BUSY": (Reaction.HELD, "in use"),
    "VIR_ERR_BLOCK_COPY_ACTIVE": (Reaction.HELD, "a disk is being copied"),
    "VIR_ERR_AGENT_UNRESPONSIVE": (Reaction.HELD, "the guest's agent does not answer"),
    "VIR_ERR_AGENT_UNSYNCED": (Reaction.HELD, "the guest's agent answers somebody else's question"),
    "VIR_ERR_AGENT_COMMAND_TIMEOUT": (Reaction.HELD, "the guest's agent has begun, and not ended in time"),
    "VIR_ERR_AGENT_COMMAND_FAILED": (Reaction.AGAIN, "the guest's agent could not do it"),
    # The state of things when it was asked: it may be another next time
    "VIR_ERR_INTERNAL_ERROR": (Reaction.AGAIN, "QEMU's own, and libvirt's bugs; the text says which"),
    "VIR_ERR_SYSTEM_ERROR": (Reaction.AGAIN, "a system call of libvirtd's failed"),
    "VIR_ERR_OPERATION_FAILED": (Reaction.AGAIN, "QEMU or the kernel refused; the text says why"),
    "VIR_ERR_OPERATION_INVALID": (Reaction.AGAIN, "the domain is not in the state for it: look again"),
    "VIR_ERR_OPERATION_ABORTED": (Reaction.AGAIN, "somebody ended the job"),
    "VIR_ERR_CALL_FAILED": (Reaction.AGAIN, "a call of another system failed"),
    "VIR_ERR_OPEN_FAILED": (Reaction.AGAIN, "libvirtd could not open a file"),
    "VIR_ERR_READ_FAILED": (Reaction.AGAIN, "libvirtd could not read a file"),
    "VIR_ERR_WRITE_FAILED": (Reaction.AGAIN, "libvirtd could not write a file; is the disk full?"),
    "VIR_ERR_PARSE_FAILED": (Reaction.AGAIN, "what libvirtd was told by another program does not parse"),
    "VIR_ERR_CONF_SYNTAX": (Reaction.AGAIN, "a file of the daemon's does not parse; its operator mends it"),
    "VIR_ERR_HOOK_SCRIPT_FAILED": (Reaction.AGAIN, "the operator's hook said no"),
    "VIR_ERR_BUILD_FIREWALL": (Reaction.AGAIN, "libvirtd's firewall rules could not be made"),
    "VIR_ERR_STORAGE_PROBE_FAILED": (Reaction.AGAIN, "what lies on a volume could not be told"),
    "VIR_ERR_DRIVER_FULL": (Reaction.AGAIN, "libvirtd has no room for another of its kind"),
    "VIR_ERR_MIGRATE_PERSIST_FAILED": (Reaction.AGAIN, "migrated, and could not be defined there"),
    "VIR_ERR_MIGRATE_FINISH_OK": (Reaction.AGAIN, "the other side goes on, this one must too"),
    "VIR_ERR_CHECKPOINT_INCONSISTENT": (Reaction.AGAIN, "a disk's bitmap is broken"),
    "VIR_ERR_MULTIPLE_DOMAINS": (Reaction.AGAIN, "more than one of that name"),
    "VIR_ERR_MULTIPLE_INTERFACES": (Reaction.AGAIN, "more than one of that MAC"),
    # Handles of what was there and is no more, or never was: verbs answer for the domain, a second look for the rest
    "VIR_ERR_NO_DOMAIN": (Reaction.AGAIN, "it went while it was looked at; see `is_no_domain`"),
    "VIR_ERR_INVALID_DOMAIN": (Reaction.AGAIN, "the handle is none"),
    "VIR_ERR_DOM_EXIST": (Reaction.AGAIN, "it came while it was looked for"),
    "VIR_ERR_NO_DOMAIN_METADATA": (Reaction.AGAIN, "it bears none of that name space; see virt/lookup.py"),
    "VIR_ERR_DEVICE_MISSING": (Reaction.AGAIN, "the domain has no such device: gone meanwhile?"),
    "VIR_ERR_NO_DOMAIN_SNAPSHOT": (Reaction.AGAIN, "no such snapshot"),
    "VIR_ERR_INVALID_DOMAIN_SNAPSHOT": (Reaction.AGAIN, "the handle is none"),
    "VIR_ERR_NO_DOMAIN_CHECKPOINT": (Reaction.AGAIN, "no such checkpoint"),
    "VIR_ERR_INVALID_DOMAIN_CHECKPOINT": (Reaction.AGAIN, "the handle is none"),
    "VIR_ERR_NO_DOMAIN_BACKUP": (Reaction.AGAIN, "no backup goes on"),
    "VIR_ERR_INVALID_STREAM": (Reaction.AGAIN, "the handle is none"),
    "VIR_ERR_NO_SECRET": (Reaction.AGAIN, "libvirtd lost the secret that the definition names; define it again"),
    "VIR_ERR_INVALID_SECRET": (Reaction.AGAIN, "likewise"),
    "VIR_ERR_NO_NODE_DEVICE": (Reaction.AGAIN, "the host has no such device now"),
    "VIR_ERR_INVALID_NODE_DEVICE": (Reaction.AGAIN, "the handle is none"),
    # libvirt's own networks, interfaces, filters and pools, of which we make none: an operator's, met by a definition
    "VIR_ERR_NO_NETWORK": (Reaction.AGAIN, "not there now"),
    "VIR_ERR_INVALID_NETWORK": (Reaction.AGAIN, "likewise"),
    "VIR_ERR_NETWORK_EXIST": (Reaction.AGAIN, "there already"),
    "VIR_ERR_NO_NETWORK_PORT": (Reaction.AGAIN, "not there now"),
    "VIR_ERR_INVALID_NETWORK_PORT": (Reaction.AGAIN, "likewise"),
    "VIR_ERR_NETWORK_PORT_EXIST": (Reaction.AGAIN, "there already"),
    "VIR_ERR_NO_NETWORK_METADATA": (Reaction.AGAIN, "it bears none of that name space"),
    "VIR_ERR_NO_INTERFACE": (Reaction.AGAIN, "not there now"),
    "VIR_ERR_INVALID_INTERFACE": (Reaction.AGAIN, "likewise"),
    "VIR_ERR_NO_NWFILTER": (Reaction.AGAIN, "not there now"),
    "VIR_ERR_INVALID_NWFILTER": (Reaction.AGAIN, "likewise"),
    "VIR_ERR_NO_NWFILTER_BINDING": (Reaction.AGAIN, "not there now"),
    "VIR_ERR_INVALID_NWFILTER_BINDING": (Reaction.AGAIN, "likewise"),
    "VIR_ERR_NO_STORAGE_POOL": (Reaction.AGAIN, "not there now"),
    "VIR_ERR_INVALID_STORAGE_POOL": (Reaction.AGAIN, "likewise"),
    "VIR_ERR_STORAGE_POOL_BUILT": (Reaction.AGAIN, "made already"),
    "VIR_ERR_NO_STORAGE_VOL": (Reaction.AGAIN, "not there now"),
    "VIR_ERR_INVALID_STORAGE_VOL": (Reaction.AGAIN, "likewise"),
    "VIR_ERR_STORAGE_VOL_EXIST": (Reaction.AGAIN, "there already"),
    # No driver of ours has ever sent these
    "VIR_ERR_OK": (Reaction.AGAIN, "no error: libvirt failed and does not say why"),
    "VIR_ERR_GET_FAILED": (Reaction.AGAIN, "Xen's old HTTP"),
    "VIR_ERR_POST_FAILED": (Reaction.AGAIN, "likewise"),
    "VIR_ERR_HTTP_ERROR": (Reaction.AGAIN, "likewise"),
    "VIR_ERR_SEXPR_SERIAL": (Reaction.AGAIN, "Xen's"),
    "VIR_ERR_NO_XEN": (Reaction.AGAIN, "Xen's"),
    "VIR_ERR_XEN_CALL": (Reaction.AGAIN, "Xen's"),
    "VIR_ERR_NO_XENSTORE": (Reaction.AGAIN, "Xen's"),
}
"""Every code that libvirt has (virErrorNumber), what we make of it, and why. By name: an older libvirt-python lacks the newest.

A code that is not here, a later libvirt's, is tried again like `AGAIN`; a test fails for it, so that somebody decides.
"""

_BY_CODE = {
    code: reaction for name, (reaction, _) in REACTIONS.items() if (code := getattr(libvirt, name, None)) is not None
}
_NO_MEMORY = "Cannot allocate memory"


def is_broken_connection(error: libvirt.libvirtError) -> bool:
    """The call failed between us and libvirtd; nobody knows whether it was carried out."""
    code, domain = error.get_error_code(), error.get_error_domain()
    return code == libvirt.VIR_ERR_NO_CONNECT or (domain in _TRANSPORT and code in _BROKEN)


def is_no_domain(error: libvirt.libvirtError) -> bool:
    """libvirt was asked, and says that there is no such domain."""
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)


def is_unknown_flag(error: libvirt.libvirtError) -> bool:
    """The driver, or this version of it, does not know a flag of the call; it has done nothing."""
    return bool(error.get_error_code() == libvirt.VIR_ERR_INVALID_ARG and "unsupported flags" in str(error))


def model_error_for(error: libvirt.libvirtError, doing: str) -> TaskvisorError:
    """The model's error for a failed call, by `REACTIONS`; `doing` completes "cannot …".

    CannotAsk when libvirtd could not be reached, Refused for what it rejects or cannot do, DoesNotFit when the host has no memory
    for the guest, Retryable for all else: libvirt's own message is in the text, and the step's tries bound it.
    """
    said = _said(error)
    if is_broken_connection(error):
        return CannotAsk(
            f"cannot {doing}: libvirtd does not answer ({said}); see whether it runs on this host",
            delay_s=REOPEN_DELAY_S,
        )
    match _reaction_to(error, said):
        case Reaction.CANNOT_ASK:
            return CannotAsk(f"cannot {doing}: libvirtd was not asked ({said})", delay_s=REOPEN_DELAY_S)
        case Reaction.REJECTED:
            return Refused(f"cannot {doing}: libvirt rejects it ({said})")
        case Reaction.NO_MEMORY:
            return DoesNotFit(f"cannot {doing}: the host has no memory for it ({said})")
        case Reaction.HELD:
            return Retryable(f"cannot {doing} yet: the domain is held by another call ({said})", delay_s=BUSY_DELAY_S)
        case Reaction.AGAIN:
            return Retryable(f"cannot {doing}: {said}")


def _reaction_to(error: libvirt.libvirtError, said: str) -> Reaction:
    reaction = _BY_CODE.get(error.get_error_code(), Reaction.AGAIN)
    return Reaction.NO_MEMORY if reaction is Reaction.AGAIN and _NO_MEMORY in said else reaction


def _said(error: libvirt.libvirtError) -> str:
    return str(error.get_error_message() or error)
