"""The ledger of removals: append-only entries, each chained to the one before it by a hash."""

from memsinks.ledger.chain import Entry, Head, Kind, Problem
from memsinks.ledger.files import verify_file
from memsinks.ledger.ledger import Ledger
from memsinks.ledger.people import Role

__all__ = ["Entry", "Head", "Kind", "Ledger", "Problem", "Role", "verify_file"]
