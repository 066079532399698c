"""One host, with all that it says of itself."""

from dataclasses import replace

from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.observed import HostCell, PciDevice
from taskvisor.model.records import Inventory, Resources
from tests.cli.book import Book
from tests.cli.conftest import Cli, json_of

HOST = HostName("host-1")


def put(book: Book, **said: object) -> None:
    """The host is there, and says this of itself."""
    book.put_host(HOST)
    (host,) = book.hosts.list_hosts()
    assert host.inventory is not None
    inventory: Inventory = replace(host.inventory, **said)  # type: ignore[arg-type]
    book.hosts.write_inventory(HOST, inventory)


def line_of(shown: str, name: str) -> str:
    return next(line.removeprefix(name).strip() for line in shown.splitlines() if line.startswith(name))


def test_a_host_is_shown_with_what_is_claimed_and_held_of_it(cli: Cli, book: Book) -> None:
    put(
        book,
        limits=Resources(vcpus=8, memory_mib=4096, disk_gib=100, others={"pcpus": 2}),
        total=Resources(vcpus=2, memory_mib=4608, disk_gib=100, others={"pcpus": 2}),
        cells=(HostCell(id=0, memory_mib=4608, cores=(frozenset({0, 2}), frozenset({1, 3})), pages={2048: 64, 4: 0}),),
        pci_devices=(PciDevice(address="0000:3b:00.0", vendor_id="10de", product_id="1db4", cell=0),),
        things={"cpu": ("cpu:1", "cpu:3"), "pci:10de:1db4": ("pci:0000:3b:00.0",)},
        traits=("HW_CPU_X86_AVX2",),
        stats={"num_instances": 1},
        cached_images=("ab" * 32,),
        disk_available_least_gib=-3,
        orphans=(InstanceId("o"),),
        guests=Resources(vcpus=2, memory_mib=64),
        cpu_model="EPYC",
    )
    book.client.hset(book.keys.held(HOST), mapping={"cpu:1": "web", "pci:0000:3b:00.0": "db"})
    book.client.hset(book.keys.used(HOST), mapping={"pcpus": 1})

    shown = cli("host", "show", "host-1").stdout

    assert line_of(shown, "State") == "up"
    assert line_of(shown, "pcpus") == "1 claimed of 2; it has 2"
    assert line_of(shown, "vcpus") == "0 claimed of 8; it has 2"
    assert line_of(shown, "NUMA cell 0") == "CPUs 0-3, 4608 MiB, pages: 64 of 2048 KiB"
    assert line_of(shown, "PCI 0000:3b:00.0") == "10de:1db4, db"
    assert line_of(shown, "Held cpu:1") == "web"
    assert line_of(shown, "Disk free GiB") == "90; -3 if all disks grew to their size"
    assert line_of(shown, "Domains") == "0, with 2 CPUs and 64 MiB; 1 unknown"
    view = json_of(cli("host", "show", "host-1", "-f", "json"))
    assert view["pci_devices"][0]["instance_id"] == "db"
    assert view["cells"] == [{"id": 0, "cpus": "0-3", "memory_mib": 4608, "pages": {"4": 0, "2048": 64}}]
    assert (view["held"]["cpu:1"], view["stats"], view["orphans"]) == ("web", {"num_instances": 1}, ["o"])
    assert (view["limits"]["pcpus"], view["used"]["pcpus"]) == (2, 1)


def test_a_host_that_is_marked_says_why(cli: Cli, book: Book) -> None:
    put(book, problems=("it says that it has 0 CPUs",), limits=Resources(), remarks=("web has 128 MiB, its flavor 64",))
    assert "takes nothing" in cli("hosts").stdout
    shown = cli("host", "show", "host-1").stdout
    assert line_of(shown, "Problem") == "it says that it has 0 CPUs"
    assert line_of(shown, "Differs") == "web has 128 MiB, its flavor 64"
    assert json_of(cli("hosts", "-f", "json"))[0]["problems"] == ["it says that it has 0 CPUs"]


def test_a_host_that_has_never_reported_is_shown_so(cli: Cli, book: Book) -> None:
    book.client.sadd(book.keys.hosts, HOST)
    assert line_of(cli("host", "show", "host-1").stdout, "Reported") == "never"
    assert json_of(cli("host", "show", "host-1", "-f", "json"))["cells"] == []


def test_a_host_that_is_not_there_is_a_failure_and_a_sentence(cli: Cli) -> None:
    result = cli("host", "show", "host-9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no host 'host-9'; see `taskvisor hosts`" in result.stderr
