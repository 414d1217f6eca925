"""An application that asks marketd before it serves: FastAPI.

    pip install fastapi uvicorn httpx
    MARKETD_URL=http://127.0.0.1:8480 uvicorn fastapi_app:app
"""

import asyncio
import contextlib
import logging
import os
import uuid
from datetime import datetime, timezone
from urllib.parse import quote

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request

log = logging.getLogger("uvicorn.error")
TOKEN = os.environ.get("MARKETD_TOKEN")
marketd = httpx.AsyncClient(
    base_url=os.environ.get("MARKETD_URL", "http://127.0.0.1:8480"),
    headers={"Authorization": f"Bearer {TOKEN}"} if TOKEN else {},
    timeout=float(os.environ.get("MARKETD_TIMEOUT_MS", "300")) / 1000,  # an answer takes a few
)
unreported = []  # usage that marketd was not told yet; a real application keeps it in its database
reporter = None


class Silent(httpx.HTTPError):
    """marketd did not answer: whether it counted anything is not known."""


async def ask(method, path, body=None):
    """Returns marketd's answer. A refusal (4xx) is a mistake of ours, and is raised."""
    try:
        answer = await marketd.request(method, path, json=body)
    except httpx.TransportError as error:
        raise Silent("no answer") from error
    if answer.status_code >= 500:
        raise Silent(answer.text)
    answer.raise_for_status()
    return answer.json()


def customer_of(request: Request):
    """Returns who is signed in. Take it from your session, never from what a client may choose."""
    return request.headers["x-customer"]


def entitlement(customer, feature):
    return f"/v1/customers/{quote(customer, safe='')}/entitlements/{feature}"


def deny(access):
    """Says no as HTTP does: too much for now, or not bought at all."""
    raise HTTPException(429 if access["reason"] == "limit_exceeded" else 403, access["reason"])


def checks(feature, fail_open):
    """Makes a gate for a feature that is had or not."""

    async def gate(customer=Depends(customer_of)):
        try:
            access = await ask("GET", entitlement(customer, feature))
        except Silent:
            if not fail_open:
                raise HTTPException(503, "try again") from None
            return
        if not access["has_access"]:
            deny(access)

    return gate


def consumes(feature, quantity, fail_open):
    """Makes a gate that counts each request that it lets through."""

    async def gate(customer=Depends(customer_of)):
        path = entitlement(customer, feature) + "/consume"
        event = {"id": str(uuid.uuid4()), "quantity": quantity}
        for _ in range(2):  # the same id: it counts once, whichever answer is lost
            with contextlib.suppress(Silent):
                access = await ask("POST", path, event)
                return None if access["accepted"] else deny(access)
        if not fail_open:
            raise HTTPException(503, "try again")
        report({**event, "customer_id": customer, "feature_id": feature})

    return gate


def report(event):
    """Reports usage at once, or as soon as marketd answers."""
    global reporter
    unreported.append({**event, "timestamp": datetime.now(timezone.utc).isoformat()})
    if reporter is None or reporter.done():
        reporter = asyncio.create_task(report_all())


async def report_all():
    """Reports what is left. What was counted under its id before is a duplicate, and not counted again."""
    while unreported:
        events = unreported[:1000]
        try:
            receipt = await ask("POST", "/v1/usage", {"events": events})
        except httpx.HTTPError as error:
            log.warning("usage waits: %s", error)
            await asyncio.sleep(1)
            continue
        del unreported[: len(events)]
        for rejected in receipt["rejected"]:
            log.error("usage was rejected: %s", rejected)


app = FastAPI()


@app.get("/dashboard", dependencies=[Depends(checks("dashboard", fail_open=True))])
async def dashboard():
    return {"shown": True}


@app.post("/jobs", dependencies=[Depends(consumes("jobs", 1, fail_open=False))])
async def run_job():
    return {"done": True}


@app.post("/searches", dependencies=[Depends(consumes("searches", 1, fail_open=True))])
async def search():
    return {"found": []}


@app.post("/translations", dependencies=[Depends(checks("words", fail_open=True))])
async def translate(request: Request, customer=Depends(customer_of)):
    text = (await request.body()).decode()
    words = len(text.split())  # known only now
    usage = {"customer_id": customer, "feature_id": "words", "quantity": words}
    report({"id": str(uuid.uuid4()), **usage})
    return {"words": words}
