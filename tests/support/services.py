"""What blueprints find in `services()`, made of real parts that are not started: for tests of routes alone."""

from pathlib import Path

from tests.support.fakes.executor import FakeExecutor
from tests.support.fakes.outputs import FakeOutputs

from dropmill.access.accounts import Accounts
from dropmill.access.links import Links
from dropmill.access.passwords import Passwords
from dropmill.access.policy import Policy
from dropmill.access.quotas import Quotas
from dropmill.access.refusals import Refusals
from dropmill.access.sessions import Sessions
from dropmill.access.sign_ins import SignIns
from dropmill.access.tokens import Tokens
from dropmill.access.visits import Visits
from dropmill.configfile.parser import ParserProcess
from dropmill.configfile.revisions import ConfigFile
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.health import Health
from dropmill.intake.limits import Gate, UploadLimits
from dropmill.intake.resumable import Uploads
from dropmill.intake.submissions import Intake
from dropmill.live.feed import Feed
from dropmill.live.joins import JoinRates
from dropmill.live.notices import Notices
from dropmill.live.presence import Presence
from dropmill.live.subscriber import LiveServices
from dropmill.live.topics import Topics
from dropmill.live.views import Views
from dropmill.model.clock import Clock
from dropmill.origin.resolver import Resolver
from dropmill.ports.bus import Bus
from dropmill.ports.ledger import Ledger
from dropmill.processing.jobs import Jobs
from dropmill.processing.processor import Processor
from dropmill.settings import Settings
from dropmill.upkeep.event_log import EventLog
from dropmill.web.services import Services


def services_of(folder: Path, ledger: Ledger, bus: Bus) -> Services:
    """Services over a ledger and a bus that are open; nothing of the rest is, and no join waits."""
    settings = Settings(data=folder, config=folder / "config.yaml", command=("true",))
    clock, health, executor = Clock(), Health(), FakeExecutor()
    passwords = Passwords()  # its threads start with the first password
    blobs, resolver = DiskBlobStore(folder), Resolver()
    gate = Gate(UploadLimits(idle_timeout_s=60, min_free=0), blobs)
    intake = Intake(
        ledger=ledger,
        blobs=blobs,
        executor=executor,
        bus=bus,
        resolver=resolver,
        gate=gate,
        seal_after_s=60,
        clock=clock,
        health=health,
    )
    uploads = Uploads(
        ledger=ledger, blobs=blobs, bus=bus, intake=intake, gate=gate, expiry_s=60, clock=clock, health=health
    )
    views = Views(ledger=ledger, bus=bus, received=lambda _: None, senders=intake.senders.of)
    policy = Policy()
    refusals = Refusals(ledger)
    topics = Topics(ledger=ledger, views=views, outputs=FakeOutputs(), policy=policy, refusals=refusals)
    jobs = Jobs(ledger=ledger, executor=executor)
    return Services(
        settings=settings,
        policy=policy,
        processor=Processor.from_settings(settings, folder),
        blobs=blobs,
        intake=intake,
        uploads=uploads,
        jobs=jobs,
        config=ConfigFile(settings.config_location, ledger, ParserProcess(), aside=settings.config_aside),
        resolver=resolver,
        views=views,
        topics=topics,
        live=LiveServices(
            policy=policy,
            topics=topics,
            feed=Feed(ledger, bus),
            presence=Presence(),
            orders=jobs,
            joins=JoinRates(1e9),
            refusals=refusals,
        ),
        notices=Notices(ledger),
        log=EventLog(folder / "log", ledger, bus),
        health=health,
        accounts=Accounts(ledger, passwords),
        sessions=Sessions(ledger, passwords, refusals, idle_s=60, lifetime_s=60),
        tokens=Tokens(ledger),
        sign_ins=SignIns(ledger=ledger, bus=bus, idle_s=60),
        refusals=refusals,
        quotas=Quotas(ledger),
        links=Links(ledger, passwords, refusals),
        visits=Visits(ledger=ledger, bus=bus),
    )
