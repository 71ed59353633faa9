"""The blocking client, whose methods are derived from the asynchronous ones."""

from ._call import in_calling_thread as in_calling_thread
from ._client import Client as Client
from ._client import run_in_client as run_in_client
from ._iterators import Pager as Pager
from ._iterators import Watch as Watch
from ._lease import Lease as Lease
from ._lease import LeasedPod as LeasedPod
from ._pool import Pool as Pool
from ._remote import Forward as Forward
from ._remote import Job as Job
from ._remote import JobOutput as JobOutput
from ._remote import Remote as Remote
from ._resources import AccountInfo as AccountInfo
from ._resources import Availability as Availability
from ._resources import Disks as Disks
from ._resources import Pods as Pods
from ._resources import SSHKeys as SSHKeys
