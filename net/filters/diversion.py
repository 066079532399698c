"""What a guest sends, on its detour through the link that limits its rate: one rule in nftables' own family for a device.

    table netdev taskvisor-tap16cd9b2c-ad {
      comment "taskvisor:<instance>:<port>"
      chain detour {
        type filter hook ingress device "tap16cd9b2c-ad" priority 500; policy accept;
        fwd to "ifb16cd9b2c-ad"
      }
    }

Why not tc's ingress with mirred, which libvirt and others use: what has come back from an ifb skips the ingress hook of
nftables (the kernel's __netif_receive_skb_core, label skip_classify), and with it every filter of family netdev on the TAP: a
limited guest could speak as anybody. Seen to be so. A `fwd` at a late priority comes after those filters, and what returns
meets the bridge's as ever. Needs Linux 5.7 (ifb takes what nftables redirects). A table of its own for each port: no change
of one touches another's, and a table is made, replaced and removed in one transaction. Source: nft(8), FWD STATEMENT.
"""

import msgspec
import structlog

from net.command import run_command
from taskvisor.model.errors import CannotAsk, Retryable

log = structlog.get_logger(__name__)

PRIORITY = 500
"""After every filter of the same hook: netdev's `filter` is 0."""
CHAIN = "detour"


class _Detour(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one detour from another."""

    tap: str
    via: str


def ensure_detour(tap: str, via: str, owner: str) -> None:
    """All that comes in by the TAP goes out by the link `via`. CannotAsk when nft can't be asked, Retryable when it fails."""
    if _read_detour(tap) == _Detour(tap=tap, via=via):
        return
    _run_script(
        f"{_removal_for(tap)}"
        f"table netdev {table_name_for(tap)} {{\n"
        f'  comment "{owner}"\n'
        f"  chain {CHAIN} {{\n"
        f'    type filter hook ingress device "{tap}" priority {PRIORITY}; policy accept;\n'
        f'    fwd to "{via}"\n'
        "  }\n}\n"
    )
    log.info("detour_made", tap=tap, via=via)


def ensure_no_detour(tap: str) -> None:
    """Nothing is diverted from the TAP, whether or not it is there. Errors as above."""
    _run_script(_removal_for(tap))


def table_name_for(tap: str) -> str:
    """The table of that TAP's detour; its name is the TAP's own, so it is nobody else's."""
    return f"taskvisor-{tap}"


def _removal_for(tap: str) -> str:
    """In one transaction with what follows. `add` first, since `delete` fails for what is not there (`destroy`: Linux 6.3)."""
    return f"add table netdev {table_name_for(tap)}\ndelete table netdev {table_name_for(tap)}\n"


def _read_detour(tap: str) -> _Detour | None:
    """The detour that is there; None for none, or for one that is not whole."""
    table = table_name_for(tap)
    listed = run_command(["nft", "-j", "list", "table", "netdev", table])
    if listed.ok:
        return _parsed(listed.stdout, tap)
    # "No such table" and "can't say" end alike; so ask in a way whose success means something.
    tables = run_command(["nft", "list", "tables"])
    if tables.ok and f"table netdev {table}" not in tables.stdout.decode(errors="replace").splitlines():
        return None
    raise CannotAsk(f"can't list the nftables table {table}: {listed}")


class _Chain(msgspec.Struct):
    name: str = ""
    hook: str = ""
    prio: int = 0


class _Forward(msgspec.Struct):
    dev: str = ""


class _Expression(msgspec.Struct):
    fwd: _Forward | None = None


class _Rule(msgspec.Struct):
    expr: list[_Expression] = []


class _Item(msgspec.Struct):
    chain: _Chain | None = None
    rule: _Rule | None = None


class _Listed(msgspec.Struct):
    nftables: list[_Item]


def _parsed(listed: bytes, tap: str) -> _Detour | None:
    """nft 1.0.6 does not list a chain's device as JSON. The table bears the TAP's name and was made in one piece."""
    try:
        items = msgspec.json.decode(listed, type=_Listed).nftables
    except msgspec.MsgspecError as error:
        raise CannotAsk(f"can't read what nft lists of table {table_name_for(tap)}: {error}") from error
    chains = [item.chain for item in items if item.chain is not None]
    targets = [
        part.fwd.dev for item in items if item.rule is not None for part in item.rule.expr if part.fwd is not None
    ]
    if chains != [_Chain(name=CHAIN, hook="ingress", prio=PRIORITY)] or len(targets) != 1:
        return None
    return _Detour(tap=tap, via=targets[0])


def _run_script(script: str) -> None:
    ended = run_command(["nft", "-f", "-"], stdin=script)
    if not ended.ok:
        raise Retryable(f"can't change a detour in nftables: {ended}")
