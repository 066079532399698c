"""What libvirt's errors mean to us: one place that turns a libvirtError into the error whose reaction we want.

Codes and domains: https://libvirt.org/html/libvirt-virterror.html
"""

import libvirt

from taskvisor.model.errors import CannotAsk, DoesNotFit, Refused, Retryable, TaskvisorError

BUSY_DELAY_S = 5.0
"""Another call of libvirt's holds the domain; libvirt itself has waited 30 s for it by then."""
REOPEN_DELAY_S = 2.0
"""A libvirtd that is being restarted is back within seconds."""

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
_REJECTED = frozenset(
    {
        libvirt.VIR_ERR_XML_ERROR,
        libvirt.VIR_ERR_XML_DETAIL,
        libvirt.VIR_ERR_XML_INVALID_SCHEMA,
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        libvirt.VIR_ERR_INVALID_ARG,
        libvirt.VIR_ERR_OS_TYPE,
        libvirt.VIR_ERR_NO_SUPPORT,
        libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    }
)
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
    """The model's error for a failed call; `doing` completes "cannot …".

    CannotAsk when libvirtd could not be reached, Refused for what it rejects or cannot do, DoesNotFit when the host has no memory
    for the guest, Retryable for all else: libvirt's own message is in the text, and the step's tries bound it.
    """
    said = _said(error)
    if is_broken_connection(error):
        return CannotAsk(
            f"cannot {doing}: libvirtd does not answer ({said}); see whether it runs on this host",
            delay_s=REOPEN_DELAY_S,
        )
    code = error.get_error_code()
    if code in _REJECTED:
        return Refused(f"cannot {doing}: libvirt rejects it ({said})")
    if code == libvirt.VIR_ERR_NO_MEMORY or _NO_MEMORY in said:
        return DoesNotFit(f"cannot {doing}: the host has no memory for it ({said})")
    if code in (libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_ERR_RESOURCE_BUSY):
        return Retryable(f"cannot {doing} yet: the domain is held by another call ({said})", delay_s=BUSY_DELAY_S)
    return Retryable(f"cannot {doing}: {said}")


def _said(error: libvirt.libvirtError) -> str:
    return str(error.get_error_message() or error)
