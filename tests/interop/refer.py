"""Waits for the one answered call, transfers it by REST, waits for its action hook and checks what the hooks say."""
import json
import sys
import time
import urllib.parse
import urllib.request

base, hooks, result, cause = sys.argv[1:5]
deadline = time.monotonic() + 20


def wait(what, look):
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    sys.exit(f"no {what} in time")


def answered():
    with urllib.request.urlopen(f"{base}/v1/calls") as reply:
        return [call for call in json.load(reply)["calls"] if call["state"] == "in-progress"]


call = wait("answered call", answered)[0]
verb = {"verb": "sip:refer", "referTo": "+4930123456", "id": "t1", "actionHook": "/action", "eventHook": "/event",
        "headers": {"X-Custom-Header": "Value"}}
request = urllib.request.Request(f"{base}/v1/calls/{urllib.parse.quote(call['call_id'], safe='')}/verbs",
                                 json.dumps(verb).encode(), {"Content-Type": "application/json"})
with urllib.request.urlopen(request) as reply:
    assert reply.status == 202, reply.status


def posted():
    return [json.loads(line) for line in open(hooks)]


wait("action hook", lambda: [hook for hook in posted() if hook["path"] == "/action"])
got = posted()
actions = [hook["body"] for hook in got if hook["path"] == "/action"]
events = [hook["body"]["call_status"] for hook in got if hook["path"] == "/event"]
assert len(actions) == 1, actions
assert got[-1]["path"] == "/action", [hook["path"] for hook in got]
assert (actions[0]["refer_result"], actions[0]["refer_cause"]) == (result, cause), actions[0]
assert len(events) == actions[0]["notify_count"], (events, actions[0])
assert len({hook["id"] for hook in got}) == len(got), "webhook-ids repeat"
