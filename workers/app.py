"""The Celery app of every process of a host: `celery -A workers.app worker|beat|flower|inspect …` work as anywhere.

Producers do not need it: they send tasks by name (`taskvisor.client`, or any Celery app on the same Redis).
"""

import gc
import os
from contextlib import suppress

from billiard.util import get_pdeathsig
from celery import Celery
from celery.signals import (
    setup_logging,
    task_postrun,
    task_unknown,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
)
from kombu.entity import Queue

from beat_schedule import schedule_for
from tasks.edge import Edge
from taskvisor.model.queues import COMPUTE_QUEUE, control_queue, steps_queue
from taskvisor.model.urls import celery_url_for, redis_py_url_for
from taskvisor.settings import Settings, read_settings
from taskvisor.state.counters import CounterName
from taskvisor.state.keys import Keys
from workers import results
from workers.bootsteps import install
from workers.host import HostNode
from workers.logs import configure_logs
from workers.node import OpenNode
from workers.transport import broker_url_for, transport_options_for

_opened: OpenNode | None = None


def node() -> OpenNode:
    """This process's node. A child of a fork opens its own."""
    global _opened  # noqa: PLW0603 - one per process is what it is for
    if _opened is None or _opened.pid != os.getpid():
        _opened = OpenNode(
            read_settings(),
            incarnation=_host_node.incarnation,
            outcome_for=_edge.teller.outcome_for,
            launch=_edge.launch,
            tell=_edge.networks.tell_of_ports,
            ask=_edge.ticks.ask,
            roles=_host_node.roles,
        )
    return _opened


def app_for(settings: Settings) -> Celery:
    """The app, configured; tasks are not registered yet."""
    celery = Celery("taskvisor")
    celery.loader.override_backends = dict.fromkeys(("redis", "rediss"), results.ALIAS)
    queues = (steps_queue(settings.host), control_queue(settings.host), COMPUTE_QUEUE)
    celery.conf.update(
        broker_url=broker_url_for(celery_url_for(settings.redis_url)),
        broker_transport_options=transport_options_for(
            consumer=settings.host,
            counters_key=Keys(settings.key_prefix).counters,
            answers_keep_s=settings.result_keep_s,
        ),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a node lives on a Redis that is away, however long
        result_backend=celery_url_for(settings.redis_url),
        result_expires=settings.result_keep_s,
        redis_socket_timeout=settings.redis_timeout_s,
        redis_socket_connect_timeout=settings.redis_timeout_s,
        redis_retry_on_timeout=True,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_queues=[Queue(name, routing_key=name) for name in queues],  # type: ignore[no-untyped-call]
        task_default_queue=COMPUTE_QUEUE,
        task_acks_late=True,
        task_reject_on_worker_lost=False,  # the journal brings the work back; a message that kills its worker must not return
        task_track_started=False,  # a result under an operation's id is the journal's alone
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,  # our transport counts what earlier connections brought itself
        worker_disable_rate_limits=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=True,
        worker_lost_wait=1.0,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_pool="workers.pool:TaskPool",
        worker_concurrency=settings.step_concurrency,
        beat_schedule=schedule_for(settings),
        beat_scheduler="workers.beat:Scheduler",
        beat_max_loop_interval=3,
        redbeat_redis_url=redis_py_url_for(settings.redis_url),
        redbeat_redis_options={},
        redbeat_key_prefix=f"{settings.key_prefix}beat:",
        redbeat_lock_timeout=15,
    )
    return celery


app = app_for(read_settings())
_edge = Edge(app, node, lambda: node().tracing)
_edge.register()
if read_settings().flower_ticks:
    _edge.ticks.send_events()
_host_node = HostNode(app, read_settings(), _edge, node)
install(app, _host_node)


@setup_logging.connect(weak=False)
def _set_up_logging(**_: object) -> None:
    configure_logs(read_settings())


@worker_init.connect(weak=False)
def _load_what_pool_processes_need(**_: object) -> None:
    """Import before the fork what each pool process would import after it, so that they share the pages."""
    if _host_node.runs_steps:
        node().ports  # noqa: B018 - opens nothing; the adapters' modules are what is wanted
    with suppress(OSError):
        get_pdeathsig()  # a pool process calls its counterpart, for which billiard has cffi parse C


@worker_init.connect(weak=False)
@worker_process_init.connect(weak=False)
def _freeze_what_stays(**_: object) -> None:
    """Take the modules out of the collector's sight: pool processes keep sharing their pages with the parent, and what
    becomes garbage is collected after some hundred tasks instead of after it has grown to a quarter of all that is loaded.
    """
    gc.collect()
    gc.freeze()


@task_unknown.connect(weak=False)
def _count_unknown_task(**_: object) -> None:
    """Celery says in its log which task it was, and drops the message."""
    node().store.counters.add(CounterName.MESSAGES_DROPPED_UNKNOWN_TASK)


@task_postrun.connect(weak=False)
def _tell_of_trips(**_: object) -> None:
    """What this process asked of Redis is counted, now and then."""
    node().trips.tell_if_due()


@worker_process_shutdown.connect(weak=False)
def _send_last_traces(**_: object) -> None:
    node().tracing.shutdown()
