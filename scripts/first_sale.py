"""The first sale, to paste into a shell: free, paid, and with a question that is answered."""

from __future__ import annotations

#: POSIX shell, curl and sed alone. ``wait`` holds a status request until something changes.
_TEXT = r"""
Tollgate is at @SHOP@ (API: @SHOP@/docs). A first sale, to paste into another terminal:

  SHOP=@SHOP@
  field() { sed 's/.*"'$1'": *"\([^"]*\)".*/\1/'; }
  buy() { JOB=$(curl -sS $SHOP/$1/start_job -H 'Content-Type: application/json' -d "$2" |
                tee /dev/stderr | field job_id); echo; }
  ask() { curl -sS "$SHOP/$1/status?job_id=$JOB&wait=20"; echo; }
  follow() { while STATUS=$(ask $1) && echo "$STATUS" &&
             echo "$STATUS" | grep -qE '"status": *"(awaiting_payment|running)"'; do :; done; }

  # What is on offer
  curl -sS $SHOP/flows; echo

  # Free: the input is all it takes
  buy text-summary+free '{"input_data": {"sentences": 1, "text":
    "Toll roads were dear. Travellers took the toll roads all the same. They were faster."}}'
  follow text-summary+free

  # Paid: a fresh hex identifier names the purchase; the sandbox pays it within seconds
  ID=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
  buy csv-profile '{"identifier_from_purchaser": "'$ID'",
    "input_data": {"csv": "name,age\nAda,36\nGrace,45"}}'
  follow csv-profile

  # With a question: the job awaits input until it is answered
  buy tailored-letter+free '{"input_data": {"purpose": "cancellation", "sender": "Ada Moll",
    "recipient": "Fitness Nord", "details": "I have moved away."}}'
  follow tailored-letter+free
  QUESTION=$(echo "$STATUS" | sed 's/^{"id": *"\([^"]*\)".*/\1/')
  curl -sS $SHOP/tailored-letter/provide_input -H 'Content-Type: application/json' \
    -d '{"job_id": "'$JOB'", "status_id": "'$QUESTION'", "input_data": {"reference": "4711"}}'; echo
  follow tailored-letter+free
"""


def first_sale(shop: str) -> str:
    """For the service at ``shop``."""
    return _TEXT.replace("@SHOP@", shop)
